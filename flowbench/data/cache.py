"""Prepared arrays on disk: written whole or not at all, then memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import platformdirs
from pydantic import TypeAdapter

from flowbench.console import warn_once
from flowbench.data.card import Card
from flowbench.data.dataset import Splits
from flowbench.data.discrete import Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Preprocessing
from flowbench.files import ABANDONED_SECONDS
from flowbench.revision import data_code_digest

_GIVEN: TypeAdapter[tuple[GivenColumn, ...]] = TypeAdapter(tuple[GivenColumn, ...])
_DISCRETE: TypeAdapter[Discrete | None] = TypeAdapter(Discrete | None)
_STEPS: TypeAdapter[Preprocessing | None] = TypeAdapter(Preprocessing | None)

SPLITS = ("train", "validation", "test")
"""Each in a file of its name."""


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


def read(folder: Path, fingerprint: str) -> Splits | None:
    """As `whole`, for use: the folder's own time says when that was."""
    splits = whole(folder, fingerprint)
    if splits is not None:
        with suppress(OSError):  # another's, or read-only
            os.utime(folder)
    return splits


def whole(folder: Path, fingerprint: str) -> Splits | None:
    """The splits, memory-mapped; None if there are none, or if they are not whole and must be made again."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["shapes"]}
        if meta["fingerprint"] != fingerprint or any(list(a.shape) != meta["shapes"][k] for k, a in arrays.items()):
            return None
        columns = None if meta["columns"] is None else tuple(meta["columns"])
        train, validation, test = (arrays[name] for name in SPLITS)
        steps = _STEPS.validate_python(meta["preprocessing"])
        true_ll, groups = arrays.get("test_true_ll"), arrays.get("test_groups")
        given, discrete = _GIVEN.validate_python(meta["given"]), _DISCRETE.validate_python(meta["discrete"])
        tied, remarks = tuple(meta["tied"]), tuple(meta["remarks"])
        return Splits(train, validation, test, true_ll, columns, steps, groups, given, discrete, tied, remarks)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def write(folder: Path, fingerprint: str, splits: Splits) -> Splits:
    """Store the splits under ``folder`` and return them memory-mapped.

    Raises:
        OSError: the cache cannot be written.
    """
    with unfinished(folder, fingerprint) as place:
        named = {name: getattr(splits, name) for name in (*SPLITS, "test_true_ll", "test_groups")}
        arrays = {name: array for name, array in named.items() if array is not None}
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array, allow_pickle=False)
        shapes = {name: array.shape for name, array in arrays.items()}
        write_meta(
            place,
            fingerprint,
            shapes,
            splits.columns,
            splits.preprocessing,
            given=splits.given,
            discrete=splits.discrete,
            tied=splits.tied,
            remarks=splits.remarks,
        )
    stored = read(folder, fingerprint)
    if stored is None:
        raise OSError(f"{folder} cannot be read back")
    return stored


def stored(folder: Path, fingerprint: str, splits: Splits) -> Splits:
    """As ``write``; where the cache cannot be written, the splits as they are, and a warning."""
    try:
        return write(folder, fingerprint, splits)
    except OSError as error:
        warn_unwritable(folder.parent, error)
        return splits


@contextmanager
def unfinished(folder: Path, fingerprint: str) -> Iterator[Path]:
    """A new folder to write an entry to, which is renamed to ``folder`` at the end, or removed if that fails.

    So a half-written entry is never seen. If another process was faster, its entry, which is the same, is kept. What
    processes that were killed have left is removed after a day.

    Raises:
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and read(folder, fingerprint) is None:
        discard(folder)
    for left in folder.parent.glob(".*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                shutil.rmtree(left)
    place = _beside(folder)
    place.mkdir(0o700)
    try:
        yield place
        try:
            place.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """A hidden name in the same folder that no other process has."""
    return folder.parent / f".{folder.name}-{uuid.uuid4().hex}"


def write_meta(
    place: Path,
    fingerprint: str,
    shapes: Mapping[str, tuple[int, ...]],
    columns: tuple[str, ...] | None,
    preprocessing: Preprocessing | None,
    about: Sequence[str] = (),
    given: tuple[GivenColumn, ...] = (),
    discrete: Discrete | None = None,
    tied: tuple[str, ...] = (),
    remarks: tuple[str, ...] = (),
    source: Path | None = None,
) -> None:
    """Write what ``read`` holds the arrays in ``place`` against, and what else there is to know (strict JSON).

    ``source`` is the table that they were made of, where that is a user's own.
    """
    listed = {name: list(shape) for name, shape in shapes.items()}
    steps = _STEPS.dump_python(preprocessing, mode="json")
    meta = {
        "fingerprint": fingerprint, "shapes": listed, "columns": columns, "preprocessing": steps, "about": about,
        "given": _GIVEN.dump_python(given, mode="json"), "discrete": _DISCRETE.dump_python(discrete, mode="json"),
        "tied": tied, "remarks": remarks, "source": source and str(source.absolute()),
    }  # fmt: skip
    (place / "meta.json").write_text(json.dumps(meta, indent=1), "utf-8")


def read_about(folder: Path) -> list[str]:
    """What else there is to know of an entry that ``read`` has read, in lines; none where it was removed since."""
    try:
        about: list[str] = json.loads((folder / "meta.json").read_text("utf-8"))["about"]
    except FileNotFoundError:
        return []
    return about


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
    if doomed.is_symlink():
        doomed.unlink()
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def warn_unwritable(folder: Path, error: OSError) -> None:
    """Say, once, that prepared arrays are not kept, and why."""
    warn_once(f"{folder} cannot be written ({error.strerror or error}): arrays stay in memory")
