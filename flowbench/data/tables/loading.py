"""A user's own table as a dataset: converted once to standardised splits in the cache, and mapped from there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from flowbench.console import warn
from flowbench.data import cache
from flowbench.data.dataset import Dataset
from flowbench.data.tables.convert import convert, say
from flowbench.data.tables.files import OPENERS, open_table
from flowbench.data.tables.options import Seeds, TableOptions
from flowbench.data.tables.sources import HeldOut, Sources, join
from flowbench.errors import DataError
from flowbench.memory import refuse_short_of_memory

_VERSION = 5
_NOTHING = HeldOut()
_LONGEST_NAME = 150  # bytes; file systems allow some 255 for all of a run's name


def is_path(data: str) -> bool:
    """Whether ``data`` means a table in a file or folder, not a dataset by its name or in a .py file."""
    if data.endswith(".py"):
        return False
    return data.lower().endswith(tuple(OPENERS)) or "/" in data or os.sep in data or data in (".", "..")


def load_table(
    path: Path, options: TableOptions, seeds: Seeds, held_out: HeldOut = _NOTHING, taken: Collection[str] = ()
) -> Dataset:
    """The columns of numbers of the table in ``path``, split and standardised.

    Every column is standardised with mean and population standard deviation of the training rows, in float64; the
    dataset's ``preprocessing`` leads back to the table's own units. Rows keep their order within each split. What is
    ``held_out`` is not drawn from the table. Names that are ``taken``, by known datasets, are not the table's.

    Raises:
        UsageError: ``options`` name a column that is not there, or how to split a table that is not split.
        DataError: no density can be learnt of this table; the message names file and column.
    """
    held_out.refuse_idle(options)
    table = open_table(path)
    columns = options.select(table)
    source = join(table, held_out, (*options.given, *columns), options.group)
    source.refuse_empty([each.rows for each in source.tables])
    drawn = {
        "split_seed": None if options.split == "time" or not source.drawn else seeds.split,
        "noise_seed": seeds.noise if options.draws_noise else None,
    }
    fingerprint = _fingerprint(source, columns, options, drawn)
    folder = cache.place(f"table-v{_VERSION}", fingerprint)
    prepared = cache.read(folder, fingerprint)
    if prepared is None:
        prepared = _prepare(source, columns, options, seeds, folder, fingerprint)
    else:
        say(source, prepared.about)
    for remark in prepared.splits.remarks:
        warn(remark)
    return Dataset.of(
        prepared.splits,
        stored=prepared.stored,
        name=_name(path, taken),
        version=_VERSION,
        space="standardised",
        fingerprint=fingerprint,
        **drawn,
    )


def _name(path: Path, taken: Collection[str]) -> str:
    """The table's name in results: part of a run's name, which is a file's, and never that of a known dataset."""
    name = re.sub(r"[\x00-\x1f/\\]", "_", path.absolute().name).encode()[:_LONGEST_NAME].decode(errors="ignore")
    return f"{name} (table)" if name in taken else name


def _fingerprint(
    source: Sources, columns: tuple[str, ...], options: TableOptions, drawn: Mapping[str, int | None]
) -> str:
    content, *others = source.digests()
    made = options.settings() | {"columns": columns, "drop_columns": ()} | dict(drawn)
    if others:
        made["held_out"] = [(cache.SPLITS[part], digests) for part, digests in zip(source.roles, others, strict=True)]
    return hashlib.sha256(json.dumps([f"table v{_VERSION}", content, made]).encode()).hexdigest()


def _prepare(
    source: Sources, columns: tuple[str, ...], options: TableOptions, seeds: Seeds, folder: Path, fingerprint: str
) -> cache.Prepared:
    """Convert the table into the cache; where that cannot be written, into a temporary folder and then memory."""
    try:
        with cache.unfinished(folder, fingerprint) as place:
            convert(source, columns, options, seeds, place, fingerprint)
        return cache.read_back(folder, fingerprint)
    except OSError as error:
        cache.warn_unwritable(folder.parent, error)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            convert(source, columns, options, seeds, Path(temporary), fingerprint)
            splits = cache.read_back(Path(temporary), fingerprint).splits
            whole = sum(part.nbytes for part in (splits.train, splits.validation, splits.test))
            hint = "make room for its arrays where they are mapped and not held: XDG_CACHE_HOME names the folder"
            refuse_short_of_memory(source.label, whole, hint)
            train, validation, test = (np.array(part) for part in (splits.train, splits.validation, splits.test))
            return cache.Prepared(dataclasses.replace(splits, train=train, validation=validation, test=test))
    except OSError as error:
        raise DataError(
            f"{source.label} cannot be converted: {error.strerror or error}",
            "free some space, or name folders with XDG_CACHE_HOME and TMPDIR: a table of N rows and D columns "
            "takes 12 N D bytes while it is converted",
        ) from error
