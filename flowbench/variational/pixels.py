"""Pictures of pixels that are 0 or 1: drawn from the intensities of a dataset's pixels. No torch."""

from __future__ import annotations

import hashlib

import numpy as np

from flowbench.data import Dataset
from flowbench.data.dataset import Float32, Splits
from flowbench.data.preprocessing import Logit
from flowbench.errors import UsageError
from flowbench.seeds import stream

VERSION = 1
"""Of how they are made."""

CHUNK = 4096
"""Rows at a time."""

SETS = "mnist, digits, truth-linear"
"""flowbench's own that posteriors are trained on."""


def binarised(dataset: Dataset) -> Dataset:
    """Training rows as intensities in [0, 1], validation and test rows drawn from theirs, once and for all seeds.

    A pixel's level comes back from its dequantised logit; float32 has moved one in a million across the edge of a
    level, by one.

    Raises:
        UsageError: its rows are no pixels.
    """
    logit = next((step for step in dataset.preprocessing or () if isinstance(step, Logit)), None)
    if logit is None or logit.levels is None or dataset.given:
        raise UsageError(
            f"{dataset.name} is no set of pictures whose pixels can be drawn as 0 or 1, nor a known latent model",
            f"there are: {SETS}",
        )
    alpha, levels = logit.alpha, logit.levels
    train, validation, test = (
        _intensities(rows, alpha, levels) for rows in (dataset.train, dataset.validation, dataset.test)
    )
    rng = np.random.RandomState(stream(0, "binarisation") % 2**32)
    return Dataset.of(
        Splits(train, _drawn(validation, rng), _drawn(test, rng)),
        name=f"{dataset.name}-binarised",
        version=dataset.version,
        space="binarised",
        fingerprint=hashlib.sha256(f"binarised {VERSION} {dataset.fingerprint}".encode()).hexdigest(),
        partial=dataset.partial,
    )


def _intensities(rows: Float32, alpha: float, levels: int) -> Float32:
    found = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), CHUNK):
        share = 1 / (1 + np.exp(-rows[start : start + CHUNK].astype(np.float64)))
        level = np.floor((share - alpha) / (1 - 2 * alpha) * levels)
        found[start : start + CHUNK] = level.clip(0, levels - 1) / (levels - 1)
    return found


def _drawn(intensities: Float32, rng: np.random.RandomState) -> Float32:
    return (rng.random_sample(intensities.shape) < intensities).astype(np.float32)
