"""What killed processes left half-written, and which of it is removed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowbench import files
from flowbench.errors import UsageError


def left(folder: Path, process: int, machine: str, age: float = 0.0) -> Path:
    """A temporary file as a process of this number leaves it."""
    path = folder / files._temporary(folder / "x").name.replace(
        f".{files.this_machine()}-{os.getpid()}-", f".{machine}-{process}-"
    )
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that was."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_dead_process_s_are_swept_and_a_living_one_s_stay(tmp_path: Path, dead: int) -> None:
    here = files.this_machine()
    gone = left(tmp_path, dead, here)
    old = left(tmp_path, os.getpid(), here, age=10 * files.ABANDONED_SECONDS)
    others = left(tmp_path, 1, here)  # which may not be signalled
    files.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {old, others}
    assert not gone.exists()


def test_another_machine_s_stay_until_they_are_a_day_old(tmp_path: Path, dead: int) -> None:
    other = "0" * 12
    young = left(tmp_path, dead, other, age=files.ABANDONED_SECONDS - 60)
    left(tmp_path, dead, other, age=files.ABANDONED_SECONDS + 60)
    left(tmp_path, os.getpid(), other, age=files.ABANDONED_SECONDS + 60)  # a number means nothing elsewhere
    files.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_nothing_else_is_swept(tmp_path: Path, dead: int) -> None:
    names = [".hidden", ".mine.tmp", ".a-b-c.tmp", f"{files.this_machine()}-{dead}-x.tmp", "results.json"]
    for name in names:
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0))
    folder = tmp_path / f".{files.this_machine()}-{dead}-x.tmp"
    folder.mkdir()
    files.sweep(tmp_path)
    files.sweep(tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == {*names, folder.name} - {".a-b-c.tmp"}


def test_only_a_small_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"12345678")
    assert files.small_content(tmp_path / "small", 8) == b"12345678"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, most, reason in (
        ("small", 7, "8 bytes, and 7 bytes are the most"),
        ("pipe", 8, "no regular file"),
        (".", 8, "no regular file|Is a directory"),
        ("loop", 8, "symbolic links"),
        ("nowhere", 8, "No such file"),
        ("nul\0", 8, "null"),
    ):
        with pytest.raises((OSError, ValueError), match=reason):
            files.small_content(tmp_path / name, most)


def test_the_home_of_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert files.expanded("~/x") == Path("/home/me/x")
    with pytest.raises(UsageError, match="~nobody-at-all/x: there is no such user"):
        files.expanded("~nobody-at-all/x")


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    with pytest.raises(ZeroDivisionError), files.written_whole(tmp_path / "kept") as file:  # noqa: PT012
        file.write(b"new")
        1 / 0  # noqa: B018
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept", "old")]
