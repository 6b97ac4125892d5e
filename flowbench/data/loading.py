"""From a name or a path to a dataset: find or fetch, check, prepare once, and map from the cache ever after."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.console import note, warn
from flowbench.data import cache, registry
from flowbench.data.card import Card
from flowbench.data.dataset import Dataset, Splits
from flowbench.data.gaussian import gaussian_ll
from flowbench.data.labels import given_labels
from flowbench.data.registry import Recipe
from flowbench.data.sources import raw
from flowbench.data.sources.fetch import fetch
from flowbench.data.tables import loading as table
from flowbench.data.tables.options import Seeds, TableOptions
from flowbench.data.tables.sources import HeldOut
from flowbench.errors import DataError, UsageError
from flowbench.files import expanded

_SEED = 42  # of all published preprocessing (gpapamak/maf); a run's own seed never changes the data
_WHOLE = TableOptions()


def load(
    data: str,
    *,
    split_seed: int = 0,
    noise_seed: int | None = None,
    allow_partial: bool = False,
    table_options: TableOptions = _WHOLE,
    test_data: str | None = None,
    validation_data: str | None = None,
) -> Dataset:
    """The dataset of that name or in that .py file, or the table in that file or folder.

    ``data`` is a table's path if it ends in .csv, .tsv, .parquet, .npy or .npz or contains a path separator, and not in
    .py. ``split_seed`` splits an own table and ``noise_seed`` (None: the same) draws its noise; the seed of a training
    does neither, so that its seeds have one split. ``allow_partial`` accepts raw files with fewer or more rows than the
    card says. ``table_options`` say what of an own table is modelled, and how; of a known dataset labels can be given,
    and no more. ``test_data`` and ``validation_data`` are tables with the columns of an own one whose rows are all of
    that split, which is then not drawn. Raw files that are missing are downloaded, as `fetch.fetch` does it, but for
    files of labels.

    Raises:
        UsageError: no dataset has that name, or ``table_options`` or files are given for one, or options name what is
            not there, or would have no effect.
        DataError: raw files are damaged, or missing and cannot be downloaded, or the rows are unfit for a density.
    """
    if table.is_path(data):
        drawn_by = Seeds(split_seed, split_seed if noise_seed is None else noise_seed)
        files = (None if each is None else expanded(each) for each in (validation_data, test_data))
        return table.load_table(expanded(data), table_options, drawn_by, HeldOut(*files), taken=registry.names())
    refuse_held_out(data, test_data, validation_data)
    if dataclasses.replace(table_options, given=()) != _WHOLE:
        raise UsageError(
            f"{data} is a dataset with columns and splits of its own: options of tables do not go with it",
            f"to give a file or folder of that name, write ./{data}",
        )
    dataset = _load_recipe(data, allow_partial=allow_partial)
    given = table_options.given
    return given_labels(dataset, registry.recipe(data), given) if given else dataset


def refuse_held_out(data: str, *files: str | None) -> None:
    """Raise UsageError if there are files of test or validation rows for a dataset, which has its own."""
    if any(file is not None for file in files):
        raise UsageError(
            f"{data} is a dataset with splits of its own: no other rows go with it",
            f"to give a file or folder of that name, write ./{data}",
        )


def raw_status(name: str) -> str:
    """Whether the raw files of a known dataset are there: ``embedded``, ``present``, ``missing`` or ``unreadable``."""
    return raw.status(registry.card(name))


def _load_recipe(name: str, *, allow_partial: bool) -> Dataset:
    recipe = registry.recipe(name)
    card = recipe.CARD
    some_do = allow_partial and getattr(recipe, "SOME_FILES_DO", False)
    try:
        fetch(card)
    except DataError as error:
        if not (some_do and raw.some_of(card)):
            raise
        warn(f"{error}: going on with {', '.join(raw.some_of(card))}, split in the published proportions")
    files = raw.find(card, partial=some_do)
    fingerprint = raw.fingerprint(card, files, registry.code_digest(card.name))
    folder = cache.entry(card, fingerprint)
    prepared = cache.read(folder, fingerprint)
    if prepared is None:
        checked = _checked(card, _prepare(recipe, files), allow_partial=allow_partial)
        prepared = cache.stored(folder, fingerprint, checked)
    splits = prepared.splits
    partial = _is_partial(card, splits, allow_partial=allow_partial)
    if partial:
        found, promised = (" / ".join(f"{n:,}" for n in rows) for rows in (splits.rows, card.rows))
        note(f"{card.name}: {found} rows of {promised} (train / validation / test)")
    return Dataset.of(
        splits,
        stored=prepared.stored,
        name=f"{card.name}~{sum(splits.rows)}" if partial else card.name,
        version=card.version,
        space=card.space,
        card=card,
        fingerprint=fingerprint,
        partial=partial,
    )


def _prepare(recipe: Recipe, files: Mapping[str, Path]) -> Splits:
    splits = recipe.prepare(files, np.random.RandomState(_SEED))
    true_ll = splits.test_true_ll
    return dataclasses.replace(
        splits,
        train=np.ascontiguousarray(splits.train, np.float32),
        validation=np.ascontiguousarray(splits.validation, np.float32),
        test=np.ascontiguousarray(splits.test, np.float32),
        test_true_ll=None if true_ll is None else np.ascontiguousarray(true_ll, np.float64),
    )


def _checked(card: Card, splits: Splits, *, allow_partial: bool) -> Splits:
    for part in ("train", "validation", "test"):
        rows = getattr(splits, part)
        if rows.ndim != 2 or rows.shape[1] != card.dim:
            raise DataError(f"{card.name}: {part} has shape {rows.shape}, its card says {card.dim} columns")
        if not np.isfinite(rows).all():
            bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise DataError(f"{card.name}: row {bad} of {part} holds NaN or infinity", "the raw file may be damaged")
    for part in ("test_true_ll", "test_groups"):
        of_rows = getattr(splits, part)
        if of_rows is not None and of_rows.shape != splits.test.shape[:1]:
            raise DataError(f"{card.name}: {part} has shape {of_rows.shape}, of {len(splits.test):,} test rows")
    if not _is_partial(card, splits, allow_partial=allow_partial):
        _check_gaussian(card, splits)
    return splits


def _is_partial(card: Card, splits: Splits, *, allow_partial: bool) -> bool:
    """Whether the rows are others than the card's.

    Raises:
        DataError: they are, and that is not allowed; or a split is empty.
    """
    if splits.rows == card.rows:
        return False
    found = " / ".join(f"{n:,}" for n in splits.rows)
    promised = " / ".join(f"{n:,}" for n in card.rows)
    message = f"{card.name}: its raw files give {found} rows (train / validation / test), its card says {promised}"
    if 0 in splits.rows:
        raise DataError(message, "a split is empty: get the complete file")
    if not allow_partial:
        raise DataError(
            message,
            "get the complete file, or give --allow-partial: results are then named "
            f"{card.name}~{sum(splits.rows)} and no published number is set beside them",
        )
    return True


def _check_gaussian(card: Card, splits: Splits) -> None:
    if card.gaussian_test_ll is None or card.gaussian_tolerance is None:
        return
    found = float(gaussian_ll(splits.train, splits.test).mean())
    if abs(found - card.gaussian_test_ll) > card.gaussian_tolerance:
        raise DataError(
            f"{card.name}: a Gaussian reaches {found:.3f} nats on its test rows, "
            f"its card says {card.gaussian_test_ll} ± {card.gaussian_tolerance}",
            "the raw files are damaged or are other data, or the recipe was changed: "
            "get the files again and compare their checksums",
        )
