"""Digests that are known: believed while a file's status tells that nobody wrote to it, and not for ever."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowbench.data import known
from flowbench.data.sealing import sealed
from flowbench.files import regular_file

_MOMENT = 0.05  # longer than a tick of the clock that file systems read


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder, small files worth while, and not long to wait until a file is not new."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(known, "WORTHWHILE_BYTES", 1)
    monkeypatch.setattr(known, "_RECENT_NS", int(_MOMENT * 1e9 / 2))
    return tmp_path / "state"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is not new, and was read."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    time.sleep(_MOMENT)
    assert is_read(path)
    return path


def is_read(path: Path, kind: str = "kind", during: Callable[[], object] = lambda: None) -> bool:
    """Whether it had to be."""
    reads = []

    def take() -> str:
        reads.append(path.read_bytes())
        during()
        return "digest"

    with regular_file(path) as opened:
        assert known.digest(path, opened.fileno(), kind, take) == "digest"
    return bool(reads)


def test_a_file_is_read_once(file: Path, state: Path) -> None:
    assert not is_read(file)
    assert is_read(file, "another kind")
    assert not is_read(file, "another kind")
    shutil.rmtree(state)
    assert is_read(file)


@pytest.mark.parametrize("damage", ["flip", "longer", "times", "copy", "rename", "touch", "link"])
def test_what_was_written_to_or_is_another_is_read_again(file: Path, damage: str) -> None:
    before, copy = file.stat(), file.with_name("copy")
    if damage in ("flip", "times"):
        with file.open("r+b") as content:
            content.write(b"d")
    if damage == "longer":
        file.write_bytes(b"longer content")
    if damage == "times":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_mtime_ns == before.st_mtime_ns
    if damage in ("copy", "rename"):
        shutil.copy2(file, copy)
        if damage == "rename":
            file.unlink()
        copy.replace(file)
    if damage == "touch":
        os.utime(file)
    if damage == "link":
        os.link(file, copy)
    time.sleep(_MOMENT)
    assert is_read(file)
    assert not is_read(file)


def test_what_is_known_of_one_file_is_not_of_another_that_has_its_times(file: Path) -> None:
    other = file.with_name("other")
    shutil.copy2(file, other)
    time.sleep(_MOMENT)
    assert is_read(other)


def test_a_file_that_was_just_written_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_RECENT_NS", 10**12)
    path = tmp_path / "new"
    path.write_bytes(b"content")
    assert is_read(path)
    assert is_read(path)


def test_a_small_file_is_read_each_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "WORTHWHILE_BYTES", 100)
    assert is_read(file, "small")
    assert is_read(file, "small")


def test_a_file_that_is_written_to_while_it_is_read_has_no_digest(file: Path) -> None:
    with pytest.raises(ValueError, match="while it was read"):
        is_read(file, "other", lambda: file.write_bytes(b"CONTENT"))


@pytest.mark.parametrize("then", ["week", "past", "restart"])
def test_nothing_is_believed_for_ever(file: Path, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    assert not is_read(file)
    if then == "restart":
        monkeypatch.setattr(known, "this_machine", lambda: "another")
    else:
        monkeypatch.setattr(time, "time_ns", lambda: now + (known.BELIEVED_NS if then == "week" else -(10**12)))
    assert is_read(file)


def test_what_is_kept_is_not_believed_when_it_is_damaged(file: Path, state: Path) -> None:
    (kept,) = state.rglob("*.json")
    content = kept.read_bytes()
    damaged = (
        content.replace(b"digest", b"Digest", 1),
        sealed({"digest": "digest"}),
        b"",
        b"{}",
        content[:-1],
        content[:-3] + b"x" + content[-2:],
    )
    for each in damaged:
        kept.write_bytes(each)
        assert is_read(file)
        assert not is_read(file)
    kept.unlink()
    os.mkfifo(kept)
    assert is_read(file)


def test_what_is_older_than_it_is_believed_goes(file: Path, state: Path) -> None:
    (kept,) = state.rglob("*.json")
    other = kept.parent.parent / "another" / "0.json"
    other.parent.mkdir()
    for path in (kept, other):
        shutil.copy(kept, path) if path != kept else None
        os.utime(path, ns=(0, time.time_ns() - 2 * known.BELIEVED_NS))
    assert is_read(file, "another kind")
    assert not kept.exists()
    assert not other.exists()


def test_without_a_folder_to_keep_it_in_it_is_read_each_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "no folder"))
    assert is_read(file)
    assert is_read(file)
