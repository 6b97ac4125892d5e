"""Who holds a run, and what the dead leave."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkpoint_cases import RUN, number_of, written

from flowbench import files
from flowbench.training.holding import HeldError, held
from flowbench.training.unfinished import Unfinished

HOLDER = """
import sys, time
from pathlib import Path
from flowbench.training.holding import held
with held(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run until its stdin is closed."""
    command = [sys.executable, "-c", HOLDER, str(folder), RUN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_run_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for _ in range(2):  # to ask changes nothing
            with pytest.raises(HeldError) as refused, held(tmp_path, RUN):
                pass
            assert f"{RUN} is being trained by process {process.pid} on {platform.node()} since 20" in str(
                refused.value
            )
        assert refused.value.exit_code == 2
        with held(tmp_path, "another-run"):
            pass
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
        with held(tmp_path, RUN):
            lock = tmp_path / "unfinished" / RUN / "lock"
            assert lock.read_text().startswith(f"{os.getpid()}\n")
    assert list(tmp_path.iterdir()) == []  # no lock, no empty folder


def test_the_dead_hold_nothing_and_what_they_left_is_swept(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        place = tmp_path / "unfinished" / RUN
        left = files._temporary(place / "x").name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
        for folder in (tmp_path, place):
            (folder / left).write_text("half")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert (place / "lock").exists()
        with held(tmp_path, RUN):
            assert [path.name for path in place.iterdir()] == ["lock"]
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_finished_stays_when_it_is_let_go(tmp_path: Path) -> None:
    with held(tmp_path, RUN):
        (path,) = [path for path in written(tmp_path, 1) if path.name != "lock"]
    assert list((tmp_path / "unfinished" / RUN).iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOLCK, "see to it that no other process trains this run"), (errno.ENOSYS, "")]
)
def test_a_file_system_without_locks_ends_nothing(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(tmp_path, RUN):
        written(tmp_path, 1)
        if number == errno.ENOSYS:  # a file that is there is a lock
            with pytest.raises(HeldError), held(tmp_path, RUN):
                pass
    assert said in capsys.readouterr().err
    assert number_of(tmp_path) == 1
    Unfinished(tmp_path, RUN).remove()
    with held(tmp_path, RUN):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unfinished").write_text("in the way")
    with held(tmp_path, RUN):
        pass
    assert f"warning: {tmp_path / 'unfinished' / RUN} takes no lock" in capsys.readouterr().err
