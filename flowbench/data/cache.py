"""Prepared arrays on disk: written whole or not at all, proven before they are used, then memory-mapped."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

from flowbench.console import note, warn_once
from flowbench.data.card import Card
from flowbench.data.dataset import Splits
from flowbench.data.meta import Arrays, Meta
from flowbench.data.proofs import DType, look_at, mapped, save
from flowbench.data.sealing import DamagedError
from flowbench.data.stored import Stored
from flowbench.files import ABANDONED_SECONDS, flush
from flowbench.revision import data_code_digest

SPLITS = ("train", "validation", "test")
"""Each in a file of its name."""

_DTYPES: dict[str, DType] = {**dict.fromkeys(SPLITS, "<f4"), "test_true_ll": "<f8", "test_groups": "<i4"}

_BESIDE = [field.name for field in fields(Splits) if field.name not in _DTYPES]
"""What splits have that is no array; it stands in `Meta` by the same names."""


def entry(card: Card, fingerprint: str) -> Path:
    """The folder that holds, or will hold, this version of this dataset from these raw files."""
    return place(f"{card.name}-v{card.version}", fingerprint)


def place(label: str, fingerprint: str) -> Path:
    """The folder for arrays of this kind with this fingerprint, made by this code.

    Of another revision's making they may be others, though nobody has raised a version: two revisions that are held
    against each other must not share them.
    """
    made_by = hashlib.sha256(f"{fingerprint} {data_code_digest()}".encode()).hexdigest()
    return prepared() / f"{label}-{made_by[:12]}"


def prepared() -> Path:
    """The folder of all entries."""
    return platformdirs.user_cache_path("flowbench") / "prepared"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Splits, where they are ``stored`` (None: in memory alone), and what else there is to know ``about`` them."""

    splits: Splits
    stored: Stored | None = None
    about: tuple[str, ...] = ()


def read(folder: Path, fingerprint: str) -> Prepared | None:
    """What is stored in ``folder``, proven and memory-mapped; None if it must be made, or made again, which is said.

    For use: the folder's own time says when that was.
    """
    if not os.path.lexists(folder):
        return None
    try:
        prepared = proven(folder, fingerprint)
    except DamagedError as error:
        note(f"{folder}: {error}: it is prepared again")
        return None
    with suppress(OSError):  # another's, or read-only
        os.utime(folder)
    return prepared


def proven(folder: Path, fingerprint: str) -> Prepared:
    """What is stored in ``folder``, memory-mapped, if all of it is what was written.

    Arrays are read for that where they may have changed since they were last read (`known`).

    Raises:
        DamagedError: it is not, or is not there.
    """
    meta = Meta.read(folder)
    if meta.fingerprint != fingerprint:
        raise DamagedError("meta.json is that of other data")
    arrays: dict[str, Any] = {
        name: mapped(folder / f"{name}.npy", proof) for name, proof in meta.arrays.present.items()
    }
    splits = Splits(**arrays, **{name: getattr(meta, name) for name in _BESIDE})
    of_rows = {name: proof.sha256 for name, proof in zip(SPLITS, meta.arrays.splits, strict=True)}
    return Prepared(splits, Stored(folder, of_rows), meta.about)


def looked_at(folder: Path) -> Meta:
    """What there is to know of an entry whose arrays are there; they are not read.

    Raises:
        DamagedError: it is damaged as far as can be seen.
    """
    meta = Meta.read(folder)
    for name, proof in meta.arrays.present.items():
        look_at(folder / f"{name}.npy", proof)
    return meta


def write(folder: Path, fingerprint: str, splits: Splits) -> Prepared:
    """Store the splits under ``folder`` and return them memory-mapped.

    Raises:
        OSError: the cache cannot be written.
    """
    with unfinished(folder, fingerprint) as place:
        arrays = {name: getattr(splits, name) for name in _DTYPES}
        proofs = {
            name: save(place / f"{name}.npy", array, _DTYPES[name])
            for name, array in arrays.items()
            if array is not None
        }
        beside = {name: getattr(splits, name) for name in _BESIDE}
        Meta(fingerprint=fingerprint, arrays=Arrays(**proofs), **beside).write(place)
    return read_back(folder, fingerprint)


def read_back(folder: Path, fingerprint: str) -> Prepared:
    """What was written there right now.

    Raises:
        OSError: it is not there.
    """
    try:
        return proven(folder, fingerprint)
    except DamagedError as error:
        raise OSError(f"it cannot be read back: {error}") from error


def stored(folder: Path, fingerprint: str, splits: Splits) -> Prepared:
    """As ``write``; where the cache cannot be written, the splits as they are, and a warning."""
    try:
        return write(folder, fingerprint, splits)
    except OSError as error:
        warn_unwritable(folder.parent, error)
        return Prepared(splits)


@contextmanager
def unfinished(folder: Path, fingerprint: str) -> Iterator[Path]:
    """A new folder to write an entry to, which is renamed to ``folder`` at the end, or removed if that fails.

    So a half-written entry is never seen. If another process was faster, its entry, which is the same, is kept. What
    processes that were killed have left is removed after a day.

    Raises:
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _make_room(folder, fingerprint)
    for left in folder.parent.glob(".*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                shutil.rmtree(left)
    place = _beside(folder)
    place.mkdir(0o700)
    try:
        yield place
        for written in (*place.iterdir(), place):
            flush(written)  # else a power cut may leave the new name on arrays that are not there
        try:
            place.rename(folder)
        except OSError:
            if not folder.exists():
                raise
        flush(folder.parent)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _make_room(folder: Path, fingerprint: str) -> None:
    """Discard what is in an entry's place and is none."""
    if os.path.lexists(folder):
        try:
            proven(folder, fingerprint)
        except DamagedError:
            discard(folder)


def _beside(folder: Path) -> Path:
    """A hidden name in the same folder that no other process has."""
    return folder.parent / f".{folder.name}-{uuid.uuid4().hex}"


def discard(folder: Path) -> bool:
    """Remove a folder; whether it was there, and no other process was faster.

    It is renamed first: another process sees it whole or gone, never in parts. One that has mapped its arrays keeps
    them.

    Raises:
        OSError: it cannot be removed.
    """
    doomed = _beside(folder)
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return False
    if doomed.is_symlink() or not doomed.is_dir():
        doomed.unlink()
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def warn_unwritable(folder: Path, error: OSError) -> None:
    """Say, once, that prepared arrays are not kept, and why."""
    warn_once(f"{folder} cannot be written ({error.strerror or error}): arrays stay in memory")
