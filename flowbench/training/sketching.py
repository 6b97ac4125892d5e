"""The sketch of a trained flow: what it learned beside what it was to learn, small enough to lie by the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import ks_2samp, kstest
from torch import Tensor

from flowbench.data import Dataset
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.flows.core.batches import rows_at_once
from flowbench.flows.core.conditionals import order_of_noise
from flowbench.flows.core.density import Density, log_likelihoods
from flowbench.results.sketch import (
    BINS,
    MOST_COLUMNS,
    MOST_EXTREME,
    MOST_NAMED,
    MOST_PAIRED,
    MOST_ROWS,
    PIT_BINS,
    Calibration,
    ExtremeRow,
    LogDensities,
    Marginal,
    Sketch,
)
from flowbench.training.pictures import pictures

Float64 = NDArray[np.float64]

MOST_TEST_ROWS, MOST_TEST_VALUES = 10_000, 2_000_000
"""Test rows that are looked at, fewer where they have many columns: 2,551 of MNIST."""

MOST_SAMPLES, MOST_SAMPLED_VALUES = 2_000, 400_000
"""Samples that are drawn, fewer where they have many columns: 510 of MNIST."""

MOST_LABELS = 40
"""Classes of a column that are counted; those after them are one."""


def sketch(flow: Flow, dataset: Dataset, test_lls: Float64, seed: int) -> Sketch | None:
    """The sketch of a flow on the test rows of its data; None beyond `MOST_NAMED` columns.

    ``test_lls`` (N,) are its log-densities of them, ``seed`` that of the samples: no other random numbers are touched.
    """
    return None if flow.columns > MOST_NAMED else _Sketching(flow, dataset, test_lls, seed).done()


def sketch_seconds(flow: Flow, rows: Rows, seconds_of: Callable[[Callable[[], object]], float]) -> float:
    """The seconds that `sketch` will take at the most, by those of a few test rows and samples."""
    if flow.columns > MOST_NAMED or not len(rows):
        return 0.0
    some, few = rows[:500], min(16, len(rows))
    given = flow.apart(some[:few])[0]
    moved = seconds_of(lambda: flow.to_noise(some) if flow.bijective else flow(some)) / len(some)
    drawn = seconds_of(lambda: flow.draws(flow.noise(few), given)) / few
    n_rows, n_samples = counts(flow.columns, len(rows))
    return (n_rows + n_samples) * moved + n_samples * drawn


def counts(columns: int, n: int) -> tuple[int, int]:
    """The test rows and the samples that are looked at, of ``n`` test rows of so many columns."""
    rows = min(n, MOST_TEST_ROWS, max(MOST_ROWS, MOST_TEST_VALUES // columns))
    return rows, min(MOST_SAMPLES, max(MOST_ROWS // 4, MOST_SAMPLED_VALUES // columns))


@dataclass(frozen=True, eq=False)
class _Sketching:
    flow: Flow
    dataset: Dataset
    test_lls: Float64
    seed: int

    @cached_property
    def density(self) -> Density:
        """In the data's own units."""
        data = self.dataset
        return Density(self.flow, data.preprocessing or (), data.given, data.discrete)

    @cached_property
    def names(self) -> list[str]:
        """Of the raw columns."""
        return [name[:1000] for name in self.dataset.columns or map(str, range(self.density.dim))]

    @cached_property
    def chosen(self) -> NDArray[np.intp]:
        """The places of the test rows that are looked at, evenly spread."""
        n = len(self.dataset.test)
        return _spread(n, counts(self.flow.columns, n)[0])

    @cached_property
    def rows(self) -> Tensor:
        """Those test rows, as the flow sees them."""
        return self._of(self.chosen)

    @cached_property
    def samples(self) -> Tensor:
        """Draws of the flow, given what test rows are given where anything is; those that are finite."""
        n = counts(self.flow.columns, len(self.rows))[1]
        generator = torch.Generator(self.flow.origin.device).manual_seed(self.seed)
        drawn, done = [], 0
        while done < n:
            k = min(n - done, rows_at_once(self.flow, MOST_SAMPLES))
            given = self.flow.apart(self.rows[(torch.arange(done, done + k) % max(1, len(self.rows)))])[0]
            drawn.append(self.flow.draws(self.flow.noise(k, generator), given))
            done += k
        found = torch.cat(drawn)
        return found[found.isfinite().all(1)]

    def _of(self, places: NDArray[np.intp]) -> Tensor:
        array = np.array(self.dataset.test[places])
        return torch.from_numpy(array).to(self.flow.origin.device)

    @torch.no_grad()
    def done(self) -> Sketch:
        raw, drawn = self.density.raw(self.rows), self.density.raw(self.samples)
        drawn = drawn[self.density.whole(drawn)]
        shown = _spread(self.density.dim, MOST_COLUMNS)
        paired = [column for column in shown.tolist() if column >= len(self.density.categories)][:MOST_PAIRED]
        least, most = self._extremes()
        why_not, calibration, distances = self._calibration()
        return Sketch(
            units=self._units,
            columns=self.names,
            n_rows=len(raw),
            n_samples=len(drawn),
            marginals=[self._marginal(int(column), raw[:, column], drawn[:, column]) for column in shown],
            paired=paired,
            rows=_cells(raw[_spread(len(raw), MOST_ROWS)][:, paired]),
            samples=_cells(drawn[:MOST_ROWS][:, paired]),
            log_densities=self._log_densities(),
            least_likely=self._extreme_rows(least, shown),
            most_likely=self._extreme_rows(most, shown),
            calibration=calibration,
            calibration_distances=distances,
            exact=not why_not and self.density.has_one_order,
            uncalibrated=why_not,
            images=pictures(
                self.dataset.preprocessing or (),
                rows=raw[_spread(len(raw), 16)],
                samples=drawn[:16],
                least_likely=self.density.raw(self._of(least)),
                most_likely=self.density.raw(self._of(most)),
            ),
        )

    @property
    def _units(self) -> str:
        if self.dataset.preprocessing is None:
            return f"{self.dataset.space} space"
        return "the data's own units"

    def _marginal(self, column: int, rows: Float64, samples: Float64) -> Marginal:
        discrete = self.dataset.discrete
        if column < len(self.density.categories):
            assert discrete is not None
            labels = [label[:1000] for label in discrete.categories[column].labels]
            return _of_classes(column, labels, rows, samples)
        rows, samples = rows[np.isfinite(rows)], samples[np.isfinite(samples)]  # what is missing is left out
        low, high = _range(rows)
        distance = float(ks_2samp(rows, samples, method="asymp").statistic) if len(rows) and len(samples) else 0.0
        both = [_counted(part, low, high) for part in (rows, samples)]
        return Marginal(column=column, low=low, high=high, distance=_short(distance), rows=both[0], samples=both[1])

    def _log_densities(self) -> LogDensities | None:
        lls = self.test_lls[np.isfinite(self.test_lls)]
        own = log_likelihoods(self.flow, self.samples) if len(self.samples) else np.empty(0)
        if not len(lls):
            return None
        low, high = _range(lls)
        both = [_counted(part[np.isfinite(part)], low, high) for part in (lls, own)]
        return LogDensities(low=low, high=high, rows=both[0], samples=both[1])

    def _extremes(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The places of the least and of the most likely test rows."""
        order = np.argsort(self.test_lls, kind="stable")
        half = min(MOST_EXTREME, (len(order) + 1) // 2)
        return order[:half], order[::-1][: min(half, len(order) - half)]

    def _extreme_rows(self, places: NDArray[np.intp], shown: NDArray[np.intp]) -> list[ExtremeRow]:
        values = self.density.raw(self._of(places))[:, shown] if len(places) else np.empty((0, len(shown)))
        return [
            ExtremeRow(row=int(place), nats=_short(self.test_lls[place]), values=own)
            for place, own in zip(places, _cells(values), strict=True)
        ]

    def _calibration(self) -> tuple[str | None, list[Calibration], list[float]]:
        """Why there is none, or that of the columns that are shown, and the distances of all."""
        if self.dataset.discrete is not None:
            return "part of a row is discrete, which no noise stands for", [], []
        if not self.flow.bijective:
            return "this density is no map of rows to noise", [], []
        back = order_of_noise(self.flow).argsort().numpy()
        moved = [self.flow.to_noise(part)[0] for part in self.rows.split(rows_at_once(self.flow))]
        u = self.flow.apart(torch.cat(moved))[1].cpu().double().numpy()[:, back]
        u = u[np.isfinite(u).all(axis=1)]
        if not len(u):
            return "no test row has finite noise", [], []
        distances = [_short(float(kstest(column, "norm", method="asymp").statistic)) for column in u.T]
        return None, [_calibrated(int(i), u[:, i], distances[i]) for i in _spread(u.shape[1], MOST_COLUMNS)], distances


def _calibrated(column: int, u: Float64, distance: float) -> Calibration:
    found = np.histogram(ndtr(u), PIT_BINS, (0.0, 1.0))[0].tolist()
    sd = float(u.std(ddof=1)) if len(u) > 1 else None
    return Calibration(column=column, mean=_short(u.mean()), sd=sd and _short(sd), distance=distance, counts=found)


def _of_classes(column: int, labels: list[str], rows: Float64, samples: Float64) -> Marginal:
    shown = labels if len(labels) <= MOST_LABELS else [*labels[:MOST_LABELS], "others"]
    codes = [np.minimum(part.astype(int), len(shown) - 1) for part in (rows, samples)]
    counts = [np.bincount(part, minlength=len(shown)) for part in codes]
    shares = [each / max(1, each.sum()) for each in counts]
    distance = _short(float(np.abs(shares[0] - shares[1]).sum() / 2)) if len(samples) else 0.0
    both = [each.tolist() for each in counts]
    return Marginal(column=column, labels=shown, distance=distance, rows=both[0], samples=both[1])


def _spread(n: int, most: int) -> NDArray[np.intp]:
    """At the most so many of n places, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp)) if n else np.empty(0, np.intp)


def _range(values: Float64) -> tuple[float, float]:
    """Where the bulk of the values lies, and some room around it; of equal values, around them."""
    if not len(values):
        return 0.0, 1.0
    low, high = (float(each) for each in np.quantile(values, [0.005, 0.995]))
    if (values == np.rint(values)).all() and values.max() - values.min() < BINS:  # one bin a whole number
        return float(values.min()) - 0.5, float(values.min()) - 0.5 + BINS
    room = 0.05 * (high - low) or max(abs(low), 1.0) * 1e-3
    return _short(low - room), _short(high + room)


def _counted(values: Float64, low: float, high: float) -> list[int]:
    """How many lie below, in each of the bins between, and above."""
    inside = np.histogram(values, BINS, (low, high))[0]
    return [int((values < low).sum()), *inside.tolist(), int((values > high).sum())]


def _cells(values: Float64) -> list[list[float | None]]:
    """As JSON has them; None for what is missing."""
    return [[_short(value) if np.isfinite(value) else None for value in row] for row in values.tolist()]


def _short(value: float) -> float:
    """With as many digits as a picture shows."""
    return float(f"{value:.5g}")
