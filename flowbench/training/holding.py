"""One process at a time is at a run: it holds the folder of what is kept of it."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from flowbench.console import warn
from flowbench.errors import UsageError
from flowbench.files import sweep
from flowbench.training.unfinished import place_of


class HeldError(UsageError):
    """Another process is at the run (exit 2)."""


@contextmanager
def held(folder: Path, run: str) -> Iterator[None]:
    """Hold a run, so that no other process trains it meanwhile; the system lets go of what a dead process held.

    Raises:
        HeldError: another process holds it.
    """
    place = place_of(folder, run)
    lock = _acquired(place, run)
    sweep(folder)
    sweep(place)
    try:
        yield
    finally:
        if lock is not None and not isinstance(lock, SoftFileLock):
            with suppress(OSError):  # while it is held: whoever tries it next opens a new one
                (place / "lock").unlink(missing_ok=True)
        if lock is not None:
            with suppress(OSError):
                lock.release()
        with suppress(OSError):
            place.rmdir()  # empty only if the run is finished
            place.parent.rmdir()


def _acquired(place: Path, run: str) -> BaseFileLock | None:
    lock: BaseFileLock = FileLock(place / "lock")
    try:
        while not lock.is_locked:
            place.mkdir(parents=True, exist_ok=True)
            with suppress(_GoneError):
                _try(lock, place, run)
    except OSError as error:
        warn(f"{place} takes no lock ({error.strerror or error}): see to it that no other process trains this run")
        with suppress(OSError):
            if not (place / "lock").stat().st_size:  # nobody's: a holder writes who it is
                (place / "lock").unlink()
        return None
    if not isinstance(lock, SoftFileLock):  # which says it itself
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):
            (place / "lock").write_text(f"{os.getpid()}\n{platform.node()}\n{now}\n", "utf-8")
    return lock


class _GoneError(Exception):
    """Whoever held the run has finished it, and removed its folder."""


def _try(lock: BaseFileLock, place: Path, run: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file system without locks: a file that is there is one
            try:
                lock.acquire(blocking=False)
            except Timeout:
                hint = "wait for it, stop it, or name another folder with --out"
                raise HeldError(f"{run} is being trained by {_holder(place)}", hint) from None
    except FileNotFoundError:
        if place.exists():
            raise
        raise _GoneError from None


def _holder(place: Path) -> str:
    with suppress(OSError, ValueError):
        process, host, *since = (place / "lock").read_text("utf-8").split("\n")
        return f"process {int(process)} on {host}" + (f" since {since[0]}" if since and since[0] else "")
    return "another process"
