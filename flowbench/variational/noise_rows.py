"""The rows of a fit to a target: standard normal noise. No torch."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from flowbench.data import Dataset
from flowbench.data.dataset import Splits
from flowbench.seeds import stream

VERSION = 2
"""Of how they are made."""

BATCH, EPOCH = 500, 50_000
"""Draws of a step by default, and of an epoch at least: a hundred steps."""

VALIDATION, TEST = 10_000, 100_000
"""Rows: test rows are what log Z is estimated of."""


def noise_rows(target: str, version: int, dim: int, batch_size: int = BATCH) -> Dataset:
    """The rows of a ``target`` of that name and version.

    What a flow is evaluated on is the same noise for all flows and seeds: differences are paired by it (common random
    numbers). Another version of the target has other noise, so that nothing of it is paired. Training draws its own at
    each step; its rows only count the batches of an epoch, which are whole: a step draws ``batch_size``.
    """
    train = batch_size * math.ceil(EPOCH / batch_size)
    fingerprint = hashlib.sha256(f"target {VERSION} {target} {version} {dim}".encode()).hexdigest()
    rng = np.random.RandomState(stream(int(fingerprint, 16), "target") % 2**32)
    validation, test = (rng.standard_normal((rows, dim)).astype(np.float32) for rows in (VALIDATION, TEST))
    return Dataset.of(
        Splits(np.zeros((train, dim), np.float32), validation, test),
        name=f"target-{target}",
        version=version,
        space="latent",
        fingerprint=fingerprint,
    )
