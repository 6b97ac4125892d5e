"""What a recipe returns (Splits) and what a run works on (Dataset)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data import digests, gaussian
from flowbench.data.card import Card, Space
from flowbench.data.discrete import Discrete, dequantised, log_fill
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Bounded, Compress, Preprocessing, bounds_in_words, noise_widths
from flowbench.data.stored import Stored

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RawArray = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a dataset, each (N, D), in the space in which a flow learns them.

    Of a conditional density they are (N, G + D): the first columns of a row are those ``given``, as a flow sees them.

    ``test_true_ll`` (N_test,) is the exact log-density of each test row in nats, where the density is known.
    ``preprocessing`` are the steps from raw values to these rows: none where they are the raw values, None where it is
    not said. ``test_groups`` (N_test,) number what test rows have in common (the photograph that they were cut from)
    where they are not independent of each other.

    Of rows with a ``discrete`` part, its codes stand between what is given and the numbers: (N, G + C + D). ``columns``
    are then those of classes, and of numbers. ``tied`` are columns with heavy ties, of which a density is learnt all
    the same. ``remarks`` are what a run on them should be doubted for, each in a sentence.
    """

    train: Float32
    validation: Float32
    test: Float32
    test_true_ll: Float64 | None = None
    columns: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    test_groups: NDArray[np.int32] | None = None
    given: tuple[GivenColumn, ...] = ()
    discrete: Discrete | None = None
    tied: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[int, int, int]:
        """Rows of the training, validation and test split."""
        return len(self.train), len(self.validation), len(self.test)

    @property
    def dim(self) -> int:
        """Number of modelled columns of numbers, D."""
        codes = len(self.discrete.classes) if self.discrete else 0
        return int(self.train.shape[1]) - len(self.given) - codes

    @property
    def classes(self) -> tuple[int, ...]:
        """Of each given column the number of its classes, 0 of a number."""
        return tuple(column.classes for column in self.given)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(Splits):
    """Prepared data: read-only float32 arrays (N, D), C-contiguous, memory-mapped where they come from the cache.

    ``name`` is the card's, or says how many rows there are of fewer or more than the card promises
    (``power~256869``): then ``partial`` is true and no published number may stand beside its results. A user's own
    table has no card. ``version`` counts changes of how the arrays are made, ``space`` is where they lie.
    ``fingerprint`` is a sha256 over the raw files' content and the version (and the seed of an own table's split):
    equal fingerprints mean arrays made the same way from the same files. ``stored`` is where they are mapped from, None
    where the cache cannot be written. ``split_seed`` and ``noise_seed`` are those that an own table was split and
    dequantised by, None where nothing was drawn.
    """

    name: str
    version: int
    space: Space
    fingerprint: str
    card: Card | None = None
    partial: bool = False
    stored: Stored | None = None
    split_seed: int | None = None
    noise_seed: int | None = None

    @classmethod
    def of(cls, splits: Splits, **about: Any) -> Dataset:
        """The dataset of these splits, with the other fields ``about`` it."""
        return cls(**{field.name: getattr(splits, field.name) for field in fields(Splits)}, **about)

    def __post_init__(self) -> None:
        # as mapped arrays are, so that nothing works in memory that would fail from the cache
        for array in (self.train, self.validation, self.test):
            array.flags.writeable = False

    @cached_property
    def gaussian_lls(self) -> Float64:
        """Log-likelihood (N_test,) in nats of each test row under a Gaussian fitted to the training rows.

        Given columns, it is one whose mean is linear in them; so are codes of a ``discrete`` part, which have
        their frequencies beside it, and a step has the density in its middle times its width.

        It is computed once and kept beside the arrays; see `gaussian.gaussian_ll`.

        Raises:
            DataError: the covariance is singular, so that no density exists.
        """
        classes = self.classes if self.discrete is None else (*self.classes, *self.discrete.classes)
        lls = self._kept("gaussian_ll", lambda: gaussian.gaussian_ll(self.train, self.test, classes))
        if self.discrete is None:
            return lls
        given, first = len(self.given), len(self.given) + len(self.discrete.classes)
        codes, numbers = np.array(self.test[:, given:first]), np.array(self.test[:, first:])
        fill = log_fill(numbers, self.discrete.absent(codes, self.dim))
        steps = np.log([width for width in self.discrete.steps if width]).sum()
        frequencies = self.discrete.log_frequencies(np.array(self.train[:, given:first]), codes)
        return lls - fill + steps + frequencies

    @cached_property
    def rows_sha256(self) -> dict[str, str]:
        """A sha256 (hex) of each split's rows as they are; it is what proves those that are mapped."""
        if self.stored:
            return dict(self.stored.rows_sha256)
        return {name: digests.rows_sha256(getattr(self, name)) for name in ("train", "validation", "test")}

    def _kept(self, name: str, compute: Callable[[], Float64]) -> Float64:
        """What is computed of each test row; kept beside the arrays where they are stored."""
        return self.stored.values(name, len(self.test), compute) if self.stored else compute()

    @property
    def kinds(self) -> dict[str, str]:
        """In words, what columns are that are not continuous numbers without bounds, by name."""
        discrete = self.discrete or Discrete()
        numbers = (self.columns or ())[len(discrete.categories) :]
        found = {column.name: [f"category of {column.classes}"] for column in discrete.categories}
        widths = noise_widths(self.preprocessing) or (0.0,) * self.dim
        for step in (step for step in self.preprocessing or () if isinstance(step, Bounded)):
            for name, low, beyond, width in zip(numbers, step.lower, step.upper, widths, strict=True):
                high = None if beyond is None else beyond - width  # noise reaches a step beyond the bound
                if not (low is None and high is None):
                    found[name] = [f"bounded {bounds_in_words((low, high))}"]
        for compress in (step for step in self.preprocessing or () if isinstance(step, Compress)):
            found |= {name: [by] for name, by in zip(numbers, compress.by, strict=True) if by}
        found |= {name: ["mass of steps"] for name, width in zip(numbers, discrete.steps, strict=False) if width}
        for atoms in discrete.atoms:
            found.setdefault(numbers[atoms.column], []).append(f"apart {atoms}")
        return {name: ", ".join(words) for name, words in found.items()}

    @property
    def dequantised(self) -> dict[str, float]:
        """The columns that uniform noise was added to, by name, and its width in their raw units."""
        return dequantised(self.columns, self.preprocessing, self.discrete)


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
