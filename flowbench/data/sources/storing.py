"""The data folder as a place to write to: the right to, the room, and one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowbench import files
from flowbench.console import note
from flowbench.errors import DataError


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Whatever the file system refuses inside becomes one error that names the folder.

    Raises:
        DataError: it is read-only, full, or no folder.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to {folder}: {error.strerror or error}", "FLOWBENCH_DATA_DIR names another folder"
        ) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made if need be, against other processes; wait for one that holds it.

    The lock is the operating system's, so a process that is killed lets go. Its empty file stays: to delete it would
    let a process that waits for the old file and one that makes a new one both in.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    from filelock import FileLock, Timeout

    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "it is read-only for you")  # a lock would wait for it to change
        lock = FileLock(folder / ".fetch.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            note(f"another process is downloading into {folder}: waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def ensure_room(folder: Path, n_bytes: int, what: str) -> None:
    """Refuse before the first byte what would end at a full disk.

    Raises:
        DataError: fewer than ``n_bytes`` are free.
    """
    try:
        files.ensure_room(folder, n_bytes)
    except OSError as error:
        hint = "make room, or name another folder with FLOWBENCH_DATA_DIR"
        raise DataError(f"{what} {error.strerror or error}", hint) from error
