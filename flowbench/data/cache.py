"""Prepared arrays on disk: written whole or not at all, then memory-mapped."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import platformdirs

from flowbench.data.card import Card
from flowbench.data.dataset import Splits

_SPLITS = ("train", "validation", "test")


def entry(card: Card, fingerprint: str) -> Path:
    """The folder that holds, or will hold, this version of this dataset from these raw files."""
    prepared = platformdirs.user_cache_path("flowbench") / "prepared"
    return prepared / f"{card.name}-v{card.version}-{fingerprint[:12]}"


def read(folder: Path, fingerprint: str) -> Splits | None:
    """The splits, memory-mapped; None if there are none, or if they are not whole and must be made again."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["shapes"]}
        if meta["fingerprint"] != fingerprint or any(list(a.shape) != meta["shapes"][k] for k, a in arrays.items()):
            return None
        columns = None if meta["columns"] is None else tuple(meta["columns"])
        train, validation, test = (arrays[name] for name in _SPLITS)
        return Splits(train, validation, test, arrays.get("test_true_ll"), columns)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def write(folder: Path, fingerprint: str, splits: Splits) -> Splits:
    """Store the splits under ``folder`` and return them memory-mapped.

    They are written to a sibling and renamed, so a half-written entry is never seen. If another process was faster,
    its entry, which is the same, is used.

    Raises:
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and read(folder, fingerprint) is None:
        _discard(folder)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(unfinished, fingerprint, splits)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    stored = read(folder, fingerprint)
    if stored is None:
        raise OSError(f"{folder} cannot be read back")
    return stored


def _fill(folder: Path, fingerprint: str, splits: Splits) -> None:
    arrays = {name: getattr(splits, name) for name in _SPLITS}
    if splits.test_true_ll is not None:
        arrays["test_true_ll"] = splits.test_true_ll
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    meta = {"fingerprint": fingerprint, "shapes": shapes, "columns": splits.columns}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), "utf-8")


def _discard(folder: Path) -> None:
    # renamed first: another process sees the entry whole or gone, never in parts
    doomed = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    os.replace(folder, doomed / "damaged")
    shutil.rmtree(doomed, ignore_errors=True)
