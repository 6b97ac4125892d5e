"""A known dataset given the labels of its images, which then stand first in its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data import cache
from flowbench.data.dataset import Dataset
from flowbench.data.given import GivenColumn
from flowbench.data.registry import Recipe
from flowbench.data.sources import raw
from flowbench.errors import DataError, UsageError

LABEL = "label"
"""The name of the column."""


def given_labels(dataset: Dataset, recipe: Recipe, given: Sequence[str]) -> Dataset:
    """The dataset with the label of each row first: ``<name>-given-label``, since no figure of the other is one of it.

    Raises:
        UsageError: it has no labels, or something else is given.
        DataError: files of labels are missing or damaged.
    """
    card = recipe.CARD
    names: tuple[str, ...] = getattr(recipe, "LABELS", ())
    if not names:
        raise UsageError(f"{card.name} has nothing that could be given", "--given is for labels of images, and tables")
    if tuple(given) != (LABEL,):
        raise UsageError(f"{card.name} cannot be given {', '.join(map(repr, given))}", f"it can be given {LABEL!r}")
    files = raw.find(card, partial=dataset.partial and getattr(recipe, "SOME_FILES_DO", False))
    files |= raw.find_labels(card, files)
    content = [raw.hash_file(path, "sha256") for path in files.values()]
    fingerprint = hashlib.sha256(f"{dataset.fingerprint} {LABEL} {' '.join(content)}".encode()).hexdigest()
    folder = cache.place(f"{card.name}-v{card.version}-{LABEL}", fingerprint)
    prepared = cache.read(folder, fingerprint)
    if prepared is None:
        labels = recipe.labels(files)  # type: ignore[attr-defined]  # it has LABELS
        prepared = cache.stored(folder, fingerprint, _labelled(dataset, labels, names))
    found = prepared.splits
    return replace(
        dataset,
        train=found.train,
        validation=found.validation,
        test=found.test,
        given=found.given,
        name=f"{dataset.name}-given-{LABEL}",
        fingerprint=fingerprint,
        stored=prepared.stored,
    )


def _labelled(dataset: Dataset, labels: Sequence[NDArray[Any]], names: tuple[str, ...]) -> Dataset:
    parts = []
    for rows, codes in zip((dataset.train, dataset.validation, dataset.test), labels, strict=True):
        if len(codes) != len(rows) or not np.isin(codes, np.arange(len(names))).all():
            message = f"{dataset.name}: its labels are not a number below {len(names)} for each of its images"
            raise DataError(message, "get the files of labels again")
        parts.append(np.concatenate([codes[:, None].astype(np.float32), rows], axis=1))
    train, validation, test = parts
    return replace(
        dataset, train=train, validation=validation, test=test, given=(GivenColumn(name=LABEL, labels=names),)
    )
