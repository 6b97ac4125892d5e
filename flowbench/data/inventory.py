"""What flowbench keeps on this machine beside results: found, measured and removed."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flowbench.data import cache, registry
from flowbench.data.card import READY_MADE
from flowbench.data.meta import Origin
from flowbench.data.sealing import DamagedError
from flowbench.data.sources import raw
from flowbench.data.sources.storing import alone
from flowbench.errors import DataError, UsageError, did_you_mean
from flowbench.files import ABANDONED_SECONDS, expanded, kernels_folder

Kind = Literal["prepared", "downloaded", "kernels", "temporary"]
"""prepared: arrays of a dataset or a table. downloaded: raw files in the data folder, whoever put them there. kernels:
compiled for a CPU. temporary: what is being prepared, or was when its process was killed.
"""

State = Literal["", "damaged", "other version", "partly", "in work"]
"""damaged, as far as lengths show it: prepared again when it is asked for. other version: by other code than this,
which does not read it. partly: a download broke off. in work: written to within a day, and never removed.
"""

_ENTRY = re.compile(r"(?P<label>(?P<name>.+?)-v\d+(?P<given>-label)?)-[0-9a-f]{12}")
_TEMPORARY = re.compile(r"\..*-[0-9a-f]{32}")
_KERNELS = re.compile(r"numba-[0-9a-f]{16}")
_DAY = 24 * 3600.0


@dataclass(frozen=True)
class Kept:
    """Something kept: its files and folders, their length, and when it was made and last used (seconds since 1970).

    ``name`` is the dataset's, a table's file name, or the kind. Of arrays there are ``rows`` of all splits together,
    ``columns`` and the ``fingerprint``; ``source`` is the table that they were made of, where that is known.
    """

    kind: Kind
    name: str
    paths: tuple[Path, ...]
    n_bytes: int
    made: float
    used: float
    rows: int | None = None
    columns: int | None = None
    source: Path | None = None
    fingerprint: str = ""
    state: State = ""

    @property
    def digits(self) -> str:
        """The fingerprint's first digits."""
        return self.fingerprint[:12]

    def is_called(self, name: str) -> bool:
        """Whether a user may mean it by this name: its own, its kind, its digits, its folder's, or its table's path."""
        known = {self.name, self.digits, self.kind, *(path.name for path in self.paths)} - {""}
        return name in known or (self.source is not None and self.source == expanded(name).absolute())


def everything() -> list[Kept]:
    """All that is kept, the largest first. What vanishes meanwhile is not there."""
    found = [*_prepared(), *_downloaded(), *_kernels()]
    return sorted(found, key=lambda kept: (-kept.n_bytes, kept.name, kept.paths))


def chosen(
    there: Sequence[Kept], names: Sequence[str], older_than_days: float | None = None, *, downloaded: bool = False
) -> list[Kept]:
    """Of what is ``there``, what has one of these names (none: all), was not used for so many days, and may be removed.

    What was ``downloaded`` stays unless it is asked for, and what is in work always does.

    Raises:
        UsageError: nothing has one of the names, and no dataset either.
    """
    known = {kept.name for kept in there} | {kept.kind for kept in there}
    for name in names:
        if not any(kept.is_called(name) for kept in there) and name not in registry.names():
            raise UsageError(f"nothing called {name!r} is kept", did_you_mean(name, known) if known else None)
    before = time.time() - (older_than_days or 0.0) * _DAY
    return [
        kept
        for kept in there
        if (not names or any(kept.is_called(name) for name in names))
        and (downloaded or kept.kind != "downloaded")
        and kept.state != "in work"
        and (older_than_days is None or kept.used < before)
    ]


def remove(kept: Kept) -> bool:
    """Remove it; whether it was there, and no other process was faster. Running processes keep what they have mapped.

    Raises:
        DataError: the system refuses it.
    """
    if kept.kind == "downloaded":
        with alone(kept.paths[0].parent):  # no download is under way
            gone = [_removed(path, _unlink) for path in kept.paths]
    else:
        gone = [_removed(path, cache.discard) for path in kept.paths]
    return any(gone)


def _unlink(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def _removed(path: Path, removing: Callable[[Path], bool]) -> bool:
    try:
        return removing(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{path} cannot be removed: {error.strerror or error}") from error


def _prepared() -> Iterator[Kept]:
    for folder in _inside(cache.prepared()):
        with suppress(FileNotFoundError):
            if _TEMPORARY.fullmatch(folder.name):
                n_bytes, used = _measured(folder)
                state: State = "" if used < time.time() - ABANDONED_SECONDS else "in work"
                yield Kept("temporary", "temporary", (folder,), n_bytes, used, used, state=state)
            elif entry := _ENTRY.fullmatch(folder.name):
                yield _entry(folder, entry)


def _entry(folder: Path, named: re.Match[str]) -> Kept:
    """Arrays; damaged ones without what their ``meta.json`` would tell."""
    used, name = folder.stat().st_mtime, named["name"] + ("-given-label" if named["given"] else "")
    n_bytes, _ = _measured(folder)
    try:
        written, origin = (folder / "meta.json").stat().st_mtime, Origin.read(folder)
    except (OSError, DamagedError):
        folder.stat()  # it may have vanished meanwhile
        return Kept("prepared", name, (folder,), n_bytes, used, used, state="damaged")
    path = Path(origin.source) if origin.source else None
    about = Kept(
        kind="prepared",
        name=path.name if path else name,
        paths=(folder,),
        n_bytes=n_bytes,
        made=written,
        used=used,
        source=path,
        fingerprint=origin.fingerprint,
    )
    is_ours = cache.place(named["label"], origin.fingerprint).name == folder.name
    state: State = "" if is_ours else "other version"
    try:
        splits = cache.looked_at(folder).arrays.splits
    except DamagedError:
        folder.stat()
        return replace(about, state="damaged" if is_ours else state)
    return replace(about, state=state, rows=sum(part.shape[0] for part in splits), columns=splits[0].shape[1])


def _downloaded() -> Iterator[Kept]:
    for name in registry.names():
        yield from _files(name, raw.lying_there(registry.card(name)))
    archive = [raw.data_dir() / name for name in (READY_MADE.name, *raw.parts_of(READY_MADE))]
    yield from _files(READY_MADE.name, [path for path in archive if os.path.lexists(path)])


def _files(name: str, paths: Sequence[Path]) -> Iterator[Kept]:
    with suppress(FileNotFoundError):
        if paths:
            sizes, times = zip(*map(_measured, paths), strict=True)
            state: State = "partly" if any(path.name.endswith(".part") for path in paths) else ""
            yield Kept("downloaded", name, tuple(paths), sum(sizes), max(times), max(times), state=state)


def _kernels() -> Iterator[Kept]:
    for folder in _inside(kernels_folder()):
        if _KERNELS.fullmatch(folder.name):
            with suppress(FileNotFoundError):
                n_bytes, used = _measured(folder)
                yield Kept("kernels", "kernels", (folder,), n_bytes, used, used)


def _inside(folder: Path) -> list[Path]:
    """What is in a folder; nothing where there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []


def _measured(path: Path) -> tuple[int, float]:
    """The bytes of a file, or of all files in a folder, and when the latest was written. What vanishes is not counted.

    Raises:
        FileNotFoundError: it is not there.
    """
    own = path.lstat()
    n_bytes, latest = own.st_size if not path.is_dir() or path.is_symlink() else 0, own.st_mtime
    for inside in path.rglob("*") if not path.is_symlink() else ():
        with suppress(FileNotFoundError):
            found = inside.lstat()
            n_bytes += 0 if inside.is_dir() else found.st_size
            latest = max(latest, found.st_mtime)
    return n_bytes, latest
