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

from flowbench.console import note, warn
from flowbench.errors import UsageError
from flowbench.files import sweep
from flowbench.training.unfinished import place_of


class HeldError(UsageError):
    """Another process is at the run (exit 2)."""


@contextmanager
def held(folder: Path, run: str, wait: bool = False) -> Iterator[None]:
    """Hold a run, so that no other process trains it meanwhile; the system lets go of what a dead process held.

    Raises:
        HeldError: another process holds it, and it is not to be waited for.
    """
    place = place_of(folder, run)
    lock = _acquired(place, run, wait)
    sweep(folder)
    sweep(place)
    try:
        yield
    finally:
        with suppress(OSError):
            if lock is not None and not isinstance(lock, SoftFileLock):
                (place / "lock").unlink(missing_ok=True)  # while it is held: whoever waits for it opens a new one
            if lock is not None:
                lock.release()
            place.rmdir()  # empty only if the run is finished
            place.parent.rmdir()


def _acquired(place: Path, run: str, wait: bool) -> BaseFileLock | None:
    lock: BaseFileLock = FileLock(place / "lock")
    try:
        while not lock.is_locked:
            place.mkdir(parents=True, exist_ok=True)
            with suppress(_GoneError):
                _wait_for(lock, place, run, wait)
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


def _wait_for(lock: BaseFileLock, place: Path, run: str, wait: bool) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file system without locks: a file that is there is one
            try:
                lock.acquire(blocking=False)
            except Timeout:
                holder = _holder(place)
                if not wait:
                    hint = "wait for it, stop it, or name another folder with --out"
                    raise HeldError(f"{run} is being trained by {holder}", hint) from None
                note(f"waiting for {run}: it is being trained by {holder}")
                lock.acquire()
    except FileNotFoundError:
        if place.exists():
            raise
        raise _GoneError from None


def _holder(place: Path) -> str:
    with suppress(OSError, ValueError):
        process, host, *since = (place / "lock").read_text("utf-8").split("\n")
        return f"process {int(process)} on {host}" + (f" since {since[0]}" if since and since[0] else "")
    return "another process"
