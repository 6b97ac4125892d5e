"""What is kept of a run until it is finished, and who holds it meanwhile."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest
import torch
from records import ENVIRONMENT

from flowbench.errors import FlowbenchError
from flowbench.training import unfinished
from flowbench.training.state import State
from flowbench.training.unfinished import About, HeldError, Unfinished, abouts, held, read

RUN = "maf-truth-banana-01234567"


@pytest.fixture(autouse=True)
def refuge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only one there is."""
    monkeypatch.setattr(unfinished, "refuges", lambda: iter([tmp_path / "refuge"]))
    return tmp_path / "refuge"


def about(run: str = RUN, kin: str = "kin") -> About:
    order = {"flow": "maf", "data": "truth-banana"}
    return About(
        run=run, kin=kin, order=order, config={}, rows_sha256={}, environment=ENVIRONMENT, started_at="", seconds=2.5
    )


def state(number: float) -> State:
    return State({"flow.weight": torch.full((3,), number)}, {"epochs": [{"validation": float("nan")}], "seconds": 1.0})


def written(folder: Path, *numbers: float) -> list[Path]:
    """The checkpoints that are left of these."""
    kept = Unfinished(folder, RUN)
    for number in numbers:
        kept.write(about(), state(number))
    return sorted((folder / "unfinished" / RUN).iterdir())


def number_of(folder: Path) -> float | None:
    found = Unfinished(folder, RUN).newest()
    return None if found is None else float(found.state.tensors["flow.weight"][0])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, 1.5)
    found = Unfinished(tmp_path, RUN).newest()
    assert found is not None
    assert found.about == about()
    assert torch.equal(found.state.tensors["flow.weight"], torch.full((3,), 1.5))
    assert found.state.numbers["seconds"] == 1.0
    assert str(found.state.numbers["epochs"][0]["validation"]) == "nan"
    assert abouts(tmp_path) == {tmp_path / "unfinished" / RUN: about()}


def test_the_last_two_are_kept_and_then_none(tmp_path: Path) -> None:
    assert number_of(tmp_path) is None
    paths = written(tmp_path, 1, 2, 3, 4)
    assert [path.name[:6] for path in paths] == ["000003", "000004"]
    assert number_of(tmp_path) == 4
    Unfinished(tmp_path, RUN).remove()
    assert number_of(tmp_path) is None
    assert not any((tmp_path / "unfinished" / RUN).iterdir())


def test_the_tenth_is_newer_than_the_ninth(tmp_path: Path) -> None:
    written(tmp_path, *range(12))
    assert number_of(tmp_path) == 11
    folder = tmp_path / "unfinished" / RUN
    for path in folder.iterdir():  # as after a million
        path.rename(folder / path.name.replace("000012", "1000012").replace("000011", "999999"))
    assert number_of(tmp_path) == 11


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "emptied": lambda path: path.write_bytes(b""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_of_a_damaged_one_is_warned_and_the_one_before_taken(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = written(tmp_path, 1, 2)
    DAMAGE[damage](second)
    assert number_of(tmp_path) == 1
    told = capsys.readouterr().err
    assert f"warning: {second} is not a readable checkpoint" in told
    assert str(first) not in told
    with pytest.raises(FlowbenchError, match="not a readable checkpoint"):
        read(second)
    DAMAGE[damage](first)
    assert number_of(tmp_path) is None
    assert str(first) in capsys.readouterr().err


def test_a_later_flowbench_s_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = written(tmp_path, 1)
    monkeypatch.setattr(unfinished, "FORMAT", 0)
    with pytest.raises(FlowbenchError, match="its format is 1, this flowbench knows 0"):
        read(path)


def test_a_folder_that_takes_nothing_has_a_refuge(
    tmp_path: Path, refuge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "unfinished").write_text("in the way")
    kept = Unfinished(results, RUN)
    kept.write(about(), state(7))
    told = capsys.readouterr().err
    assert "warning: results cannot be written to" in told
    assert f"checkpoints go to {refuge / 'unfinished' / RUN}" in told
    assert number_of(results) == 7
    assert list(abouts(results)) == [refuge / "unfinished" / RUN]
    (results / "unfinished").unlink()  # there is room again
    kept.write(about(), state(8))
    assert len(list((results / "unfinished" / RUN).iterdir())) == 1
    assert number_of(results) == 8  # counted on, wherever they lie
    kept.remove()
    assert number_of(results) is None
    assert not (refuge / "unfinished" / RUN).exists()


def test_nowhere_at_all_is_warned_of_and_ends_nothing(
    tmp_path: Path, refuge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path / "results", refuge):
        place.write_text("in the way")
    Unfinished(tmp_path / "results", RUN).write(about(), state(7))
    assert capsys.readouterr().err.count("warning: no checkpoint can be written") == 1


HOLDER = """
import sys, time
from pathlib import Path
from flowbench.training.unfinished import held
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


def test_a_run_is_one_process_s_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        # it is waited for where that is wanted
        began = time.monotonic()
        assert process.stdin is not None
        threading.Timer(0.3, process.stdin.close).start()
        with held(tmp_path, RUN, wait=True):
            assert time.monotonic() - began > 0.25
            assert process.wait(10) == 0
            lock = tmp_path / "unfinished" / RUN / "lock"
            assert lock.read_text().startswith(f"{os.getpid()}\n")
    assert f"waiting for {RUN}: it is being trained by process {process.pid}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # no lock, no empty folder


def test_the_dead_hold_nothing_and_what_they_left_is_swept(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        place = tmp_path / "unfinished" / RUN
        left = unfinished.sweep.__globals__["_temporary"](place / "x").name.replace(
            f"-{os.getpid()}-", f"-{process.pid}-"
        )
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

    monkeypatch.setattr(filelock._unix.fcntl, "flock", flock)  # type: ignore[attr-defined]
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


def test_checkpoints_of_another_name_are_taken_over(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    other = Unfinished(tmp_path, "another-run")
    other.adopt(tmp_path / "unfinished" / RUN)
    assert number_of(tmp_path) is None
    found = other.newest()
    assert found is not None
    assert found.state.tensors["flow.weight"][0] == 2
