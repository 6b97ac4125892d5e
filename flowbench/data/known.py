"""Digests of files that were taken once, and hold as long as a file's status tells that nobody wrote to it since.

What is known is kept for each machine in the user's own state folder, not beside the files: they may be read-only, and
whoever copies or restores them does not copy the belief in them along. A file that is written to has another time of
change (ctime), which no program can set back, whatever it does to the time of modification. What changes below the file
system, on the disk itself, leaves no trace there: nothing is believed beyond a restart of the machine, or a week.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict

from flowbench.data.sealing import sealed, unsealed
from flowbench.errors import UsageError
from flowbench.files import small_content, this_machine, written_whole

BELIEVED_NS = 7 * 24 * 3600 * 10**9
"""How long a digest holds at the most."""

WORTHWHILE_BYTES = 1 << 22
"""A file of so many is read in 3 ms: smaller ones are, each time."""

_RECENT_NS = 2 * 10**9  # the coarsest clock of a file system: two writes within it may leave one time
_MOST_BYTES = 4096


def digest(path: Path, file: int, kind: str, take: Callable[[], str]) -> str:
    """The digest of this ``kind`` of the open ``file`` at ``path``: one that is known, or what ``take`` gives.

    None is kept of a small file, nor of one that was written to a moment ago: it could be written to once more with the
    same times. Where none can be kept, it is taken each time.

    Raises:
        OSError: the file cannot be read.
        ValueError: it was written to meanwhile.
    """
    began, status, place = time.time_ns(), os.fstat(file), _place(path, kind)
    with suppress(OSError, ValueError):
        known = _Known.model_validate(unsealed(small_content(place, _MOST_BYTES)))
        if known.identity == _identity(status) and 0 <= began - known.taken_ns < BELIEVED_NS:
            return known.digest
    found = take()
    if _identity(os.fstat(file)) != _identity(status):
        raise ValueError("it was written to while it was read")
    written_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    if status.st_size >= WORTHWHILE_BYTES and written_ns < began - _RECENT_NS:
        _keep(place, _Known(identity=_identity(status), digest=found, taken_ns=began))
    return found


class _Known(BaseModel):
    """A digest, of which file it is, and when it was begun."""

    model_config = ConfigDict(extra="forbid")

    identity: tuple[int, ...]
    digest: str
    taken_ns: int


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What of a file's status changes when it is written to, replaced, copied or restored."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _keep(place: Path, known: _Known) -> None:
    with suppress(OSError, UsageError):
        place.parent.mkdir(parents=True, exist_ok=True)
        for old in place.parent.parent.glob("*/*"):
            with suppress(OSError):
                if old.stat().st_mtime < time.time() - BELIEVED_NS / 1e9:
                    old.unlink()
        with written_whole(place) as file:
            file.write(sealed(known.model_dump()))


def _place(path: Path, kind: str) -> Path:
    name = hashlib.sha256(kind.encode() + b" " + os.fsencode(path.absolute())).hexdigest()[:32]
    return platformdirs.user_state_path("flowbench") / "known" / this_machine() / f"{name}.json"
