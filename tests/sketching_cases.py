"""Flows that are sketched."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flowbench.data.dataset import Dataset, Splits
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.results import sketch as sketches
from flowbench.results.sketch import Sketch
from flowbench.training.sketching import sketch


def of_rows(rows: np.ndarray, **about: Any) -> Dataset:
    """A dataset of these test rows."""
    found = {"preprocessing": (), **about}
    array = rows.astype(np.float32)
    splits = Splits(array[:2].copy(), array[:2].copy(), array, **found)
    return Dataset.of(splits, name="mine", version=1, space="raw", fingerprint="f")


def sketched(flow: Flow, dataset: Dataset, lls: np.ndarray | None = None, seed: int = 1) -> Sketch:
    """The sketch, which is as its file has it."""
    test = torch.from_numpy(np.array(dataset.test))
    found = sketch(flow, dataset, log_likelihoods(flow, test) if lls is None else lls, seed)
    assert Sketch.model_validate_json(sketches.content(found)) == found
    return found


def drawn(flow: Flow, n: int = 3000) -> np.ndarray:
    """Rows that a flow draws."""
    return flow.sample(n, torch.Generator().manual_seed(0)).detach().numpy()


def rows_of(n: int, dim: int) -> np.ndarray:
    """Normal ones."""
    return np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
