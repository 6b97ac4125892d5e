"""What a recipe returns (Splits) and what a run works on (Dataset)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data.card import Card

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RawArray = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a dataset, each (N, D), in the space of its card.

    ``test_true_ll`` (N_test,) is the exact log-density of each test row in nats, where the density is known.
    """

    train: Float32
    validation: Float32
    test: Float32
    test_true_ll: Float64 | None = None
    columns: tuple[str, ...] | None = None

    @property
    def rows(self) -> tuple[int, int, int]:
        """Rows of the training, validation and test split."""
        return len(self.train), len(self.validation), len(self.test)

    @property
    def dim(self) -> int:
        """Number of columns D."""
        return int(self.train.shape[1])


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(Splits):
    """Prepared data: read-only float32 arrays (N, D), C-contiguous, memory-mapped where they come from the cache.

    ``name`` is the card's, or says how many rows there are of fewer or more than the card promises
    (``power~256869``): then ``partial`` is true and no published number may stand beside its results.
    ``fingerprint`` is a sha256 over the raw files' content and the recipe's version (and the seed of an own table's
    split): equal fingerprints mean arrays made the same way from the same
    files.

    An own table is standardised with ``location`` and ``scale`` (D,); its log-density in its own units is the model's
    plus ``unit_log_det``, which is -sum(log scale).

    ``test_groups`` (N_test,) numbers the photograph that each test row is a window of, where rows are windows.
    """

    name: str
    card: Card
    fingerprint: str
    partial: bool = False
    location: Float64 | None = None
    scale: Float64 | None = None
    unit_log_det: float | None = None
    test_groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        # as mapped arrays are, so that nothing works in memory that would fail from the cache
        for array in (self.train, self.validation, self.test):
            array.flags.writeable = False


def split_last_tenths(rows: RawArray) -> tuple[RawArray, RawArray, RawArray]:
    """Train, validation and test by position.

    Test is the last int(0.1 N) of N rows, validation the last int(0.1 M) of the M others: the rule of the
    2017 experiments for POWER, GAS and MINIBOONE.
    """
    rest, test = cut_last_tenth(rows)
    train, validation = cut_last_tenth(rest)
    return train, validation, test


def cut_last_tenth(rows: RawArray) -> tuple[RawArray, RawArray]:
    """The rows, and the last int(0.1 N) of them."""
    cut = len(rows) - int(0.1 * len(rows))
    return rows[:cut], rows[cut:]
