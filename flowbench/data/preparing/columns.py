"""What the 2017 experiments do to more than one table: which columns they drop, and how they standardise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import RawArray, Splits, split_last_tenths
from flowbench.data.preprocessing import Preprocessing, Standardise

_MOST_REPEATS = 5


def varied(rows: RawArray) -> NDArray[np.bool_]:
    """The columns (D,) of ``rows`` (N, D) whose smallest value occurs no more than five times.

    The MAF paper (appendix D.2) drops columns in which some value recurs too often. Its code reads the count of the
    smallest value where it means the largest count, so a spike anywhere else stays. The published sets were made so.
    """
    return np.asarray((rows == rows.min(axis=0)).sum(axis=0) <= _MOST_REPEATS)


def standardised_tenths(rows: RawArray, columns: tuple[str, ...] | None = None, before: Preprocessing = ()) -> Splits:
    """Train, validation and test by position (see `split_last_tenths`), standardised by the first two together.

    Mean and population standard deviation are those of training and validation rows. ``before`` is what was done to the
    rows (N, D) already.
    """
    train, validation, test = split_last_tenths(rows)
    seen = rows[: len(train) + len(validation)]
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    train, validation, test = (((part - mean) / std).astype(np.float32) for part in (train, validation, test))
    return Splits(train, validation, test, columns=columns, preprocessing=(*before, Standardise.of(mean, std)))
