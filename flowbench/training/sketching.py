"""The sketch of a trained flow: what it learned beside what it was to learn, small enough to lie by the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from flowbench.console import note, plural, warn
from flowbench.data import Dataset
from flowbench.data.discrete import Discrete
from flowbench.data.preprocessing import Dequantise, Logit, SubtractMean
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.flows.core.batches import rows_at_once
from flowbench.flows.core.density import Density
from flowbench.results.fields import LARGEST, LONGEST
from flowbench.results.sketch import (
    MOST_COLUMNS,
    MOST_EXTREME,
    MOST_NAMED,
    MOST_PAIRED,
    MOST_ROWS,
    ExtremeRow,
    LogDensities,
    Marginal,
    Sketch,
)
from flowbench.training.histograms import counted, distance, edges, evenly_spread, rounded, short, step_of
from flowbench.training.noise import Noise, no_noise, noise
from flowbench.training.pictures import SHOWN, pictures

Float64 = NDArray[np.float64]

MOST_TEST_ROWS, MOST_TEST_VALUES, FEWEST_TEST_ROWS = 10_000, 2_000_000, 50
"""Test rows that are looked at, fewer where they have many columns: 2,551 of MNIST."""

MOST_SAMPLES, MOST_SAMPLED_VALUES, FEWEST_SAMPLES = 2_000, 400_000, 50
"""Samples that are drawn, fewer where they have many columns: 510 of MNIST."""

MOST_SAMPLED_COLUMNS = 1 << 14
"""Of rows with more no samples are drawn."""

SAMPLING_SECONDS, FIRST_SAMPLES = 3.0, 16
"""After so long no more samples are drawn than there are; how long it takes, the first ones tell."""

MOST_LABELS = 40
"""Classes of a column that are counted; those after them are one."""

A_NUMBER = "other numbers"
"""What a value is that is not apart."""


def sketch(flow: Flow, dataset: Dataset, test_lls: Float64, seed: int) -> Sketch:
    """The sketch of a flow on the test rows of its data.

    ``test_lls`` (N,) are its log-densities of them, ``seed`` that of the samples: no other random numbers are touched.
    """
    return _Sketching(flow, dataset, test_lls, seed).done()


@torch.no_grad()
def sketch_seconds(flow: Flow, rows: Rows, seconds_of: Callable[[Callable[[], object]], float]) -> float:
    """The seconds that `sketch` will take at the most, by those of a few test rows and samples."""
    some, few = rows[:500], min(FIRST_SAMPLES, len(rows))
    given = flow.apart(some[:few])[0]
    n_rows, n_samples = counts(flow.columns, len(rows))
    each = seconds_of(lambda: flow.to_noise(some)) / len(some) if flow.bijective else 0.0
    drawn = seconds_of(lambda: flow.drawn(flow.noise(few), given)) / few if n_samples else 0.0
    return n_rows * each + min(n_samples * drawn, SAMPLING_SECONDS)


def counts(columns: int, n: int) -> tuple[int, int]:
    """The test rows and the samples that are looked at, of ``n`` test rows of so many columns."""
    rows = min(n, MOST_TEST_ROWS, max(FEWEST_TEST_ROWS, MOST_TEST_VALUES // columns))
    samples = min(MOST_SAMPLES, max(FEWEST_SAMPLES, MOST_SAMPLED_VALUES // columns))
    return rows, samples if columns <= MOST_SAMPLED_COLUMNS else 0


@dataclass(frozen=True, eq=False)
class _Sketching:
    flow: Flow
    dataset: Dataset
    test_lls: Float64
    seed: int

    @torch.no_grad()
    def done(self) -> Sketch:
        rows, (samples, sample_lls) = self._rows, self._samples
        marginals = list(self._marginals())
        columns = [each.column for each in marginals]
        paired = [each.column for each in marginals if each.labels is None][:MOST_PAIRED]
        least, most = self._extremes
        why_not = no_noise(self.flow, self.dataset.discrete is not None)
        found = Noise([], [], False) if why_not else noise(self.flow, self._seen, self._shown_of_noise)
        return Sketch(
            units=self._units,
            columns=self._names,
            n_rows=len(rows),
            n_samples=len(samples),
            marginals=marginals,
            paired=paired,
            rows=self._cells(rows[:MOST_ROWS], paired),
            samples=self._cells(samples[:MOST_ROWS], paired),
            log_densities=_log_densities(self.test_lls[self._chosen], sample_lls),
            least_likely=self._extreme_rows(least, columns),
            most_likely=self._extreme_rows(most, columns),
            calibration=found.calibration,
            calibration_distances=found.distances,
            exact=found.exact,
            uncalibrated=why_not,
            images=pictures(
                self.dataset.preprocessing or (),
                rows=rows[:SHOWN],
                samples=samples[:SHOWN],
                least_likely=self._raw_at(least),
                most_likely=self._raw_at(most),
            ),
        )

    @cached_property
    def _density(self) -> Density:
        """In the data's own units."""
        data = self.dataset
        return Density(self.flow, data.preprocessing or (), data.given, data.discrete)

    @cached_property
    def _names(self) -> list[str]:
        """Of the raw columns."""
        return [name[:LONGEST] for name in self.dataset.columns or map(str, range(self._density.dim))][:MOST_NAMED]

    @cached_property
    def _units(self) -> str:
        steps = self.dataset.preprocessing
        if steps is None:
            return f"{self.dataset.space} space"
        if any(isinstance(step, SubtractMean) for step in steps):
            return "grey levels above the patch's mean"
        return "pixel levels" if any(isinstance(step, Logit) for step in steps) else "the data's own units"

    @cached_property
    def _discrete(self) -> Discrete:
        return self.dataset.discrete or Discrete()

    @cached_property
    def _chosen(self) -> NDArray[np.intp]:
        """The places of the test rows that are looked at."""
        n = len(self.dataset.test)
        return evenly_spread(n, counts(self.flow.columns, n)[0])

    @cached_property
    def _seen(self) -> Tensor:
        """Those test rows (n, G + D), as the flow sees them."""
        return self._seen_at(self._chosen)

    @cached_property
    def _rows(self) -> Float64:
        """They in raw units, (n, D)."""
        return self._density.raw(self._seen)

    def _seen_at(self, places: NDArray[np.intp]) -> Tensor:
        return torch.from_numpy(np.array(self.dataset.test[places])).to(self.flow.origin.device)

    def _raw_at(self, places: NDArray[np.intp]) -> Float64:
        return self._density.raw(self._seen_at(places))

    @cached_property
    def _samples(self) -> tuple[Float64, Float64]:
        """Draws in raw units (m, D) and their log-densities (m,): those that are finite."""
        n = counts(self.flow.columns, len(self.dataset.test))[1]
        if not n:
            note(f"rows of {plural(self.flow.dim, 'column')} are too wide: the sketch has no samples")
            return np.empty((0, self._density.dim)), np.empty(0)
        generator = Generator(self.flow.origin.device).manual_seed(self.seed)
        drawn, lls = (torch.cat(parts) for parts in zip(*self._drawn(self.flow.noise(n, generator)), strict=True))
        raw = self._density.raw(drawn)
        whole = drawn.isfinite().all(1).cpu().numpy() & self._density.whole(raw)
        if not whole.all():
            warn(f"{(~whole).sum():,} of {plural(len(whole), 'sample')} are not finite: the sketch is without them")
        return raw[whole], lls.cpu().double().numpy()[whole]

    def _drawn(self, random: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What is made of random numbers (draws, n, D), until time is up; the k-th is given what the k-th row is."""
        done, size, n, began = 0, FIRST_SAMPLES, random.shape[1], time.perf_counter()
        most = rows_at_once(self.flow, n)
        while size and done < n:
            part = slice(done, min(n, done + min(size, most)))
            given = self.flow.apart(self._seen[torch.arange(part.start, part.stop) % len(self._seen)])[0]
            yield self.flow.drawn(random[:, part], given)
            done, spent = part.stop, max(1e-6, time.perf_counter() - began)
            size = min(4 * size, int(done * (SAMPLING_SECONDS / spent - 1))) if spent < SAMPLING_SECONDS else 0

    @cached_property
    def _shown(self) -> NDArray[np.intp]:
        """The columns with a histogram, in order: one with values apart has two."""
        most = max(MOST_COLUMNS // 2, MOST_COLUMNS - len(self._discrete.atoms))
        return np.sort(evenly_spread(len(self._names), most))

    @property
    def _shown_of_noise(self) -> NDArray[np.intp]:
        return self._shown[self._shown < self.flow.dim]  # the pixel that a patch drops has none

    def _marginals(self) -> Iterator[Marginal]:
        first = len(self._discrete.categories)
        atoms = {first + each.column: each for each in self._discrete.atoms}
        for column in self._shown.tolist():
            parts = [values[:, column] for values in (self._rows, self._samples[0])]
            if column < first:
                yield _of_classes(column, self._discrete.categories[column].labels, parts)
                continue
            if apart := atoms.get(column):
                codes = [apart.codes(part) for part in parts]
                labels = [A_NUMBER, *("missing" if value is None else f"{value:g}" for value in apart.values)]
                yield _of_classes(column, labels, codes)
                parts = [part[code == 0] for part, code in zip(parts, codes, strict=True)]
            found = self._edges(column, parts[0])
            if found is not None:
                low, high = found
                both = [counted(part, low, high) for part in parts]
                yield Marginal(
                    column=column, low=low, high=high, rows=both[0], samples=both[1], distance=distance(*parts)
                )

    def _edges(self, column: int, values: Float64) -> tuple[float, float] | None:
        """Of a column's bins: by the data alone, so that all runs on them have the same."""
        values = values[np.isfinite(values)]
        noise = next((step for step in self.dataset.preprocessing or () if isinstance(step, Dequantise)), None)
        widths = noise.steps if noise and noise.origin is not None else (0.0,)  # else values have their noise
        place = column - len(self._discrete.categories)
        return edges(values, step_of(values, widths[place if len(widths) > 1 else 0]))

    @cached_property
    def _extremes(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The places of the least and of the most likely test rows; one without a density is of the least."""
        order = np.argsort(np.nan_to_num(self.test_lls, nan=-np.inf, posinf=np.inf, neginf=-np.inf), kind="stable")
        return order[:MOST_EXTREME], order[::-1][:MOST_EXTREME]

    def _extreme_rows(self, places: NDArray[np.intp], columns: list[int]) -> list[ExtremeRow]:
        values = self._cells(self._raw_at(places), columns)
        return [
            ExtremeRow(row=int(place), nats=float(f"{self.test_lls[place]:.7g}"), values=own)
            for place, own in zip(places, values, strict=True)
        ]

    def _cells(self, rows: Float64, columns: list[int]) -> list[list[float | None]]:
        """These columns of raw rows as JSON has them; None for what is missing."""
        widths = self._widths
        return [[_cell(row[column], widths[column]) for column in columns] for row in rows.tolist()]

    @cached_property
    def _widths(self) -> dict[int, float]:
        """How wide the values of each shown column lie."""
        found = {column: self._edges(column, self._rows[:, column]) for column in self._shown.tolist()}
        return {column: pair[1] - pair[0] if pair else 1.0 for column, pair in found.items()}


def _cell(value: float, width: float) -> float | None:
    return rounded(value, width) if abs(value) < LARGEST else None


def _log_densities(rows: Float64, samples: Float64) -> LogDensities | None:
    found = edges(rows[np.isfinite(rows)])
    if found is None:
        return None
    both = [counted(part, *found) for part in (rows, samples)]
    return LogDensities(low=found[0], high=found[1], rows=both[0], samples=both[1])


def _of_classes(column: int, labels: Sequence[str], parts: Sequence[NDArray[Any]]) -> Marginal:
    """Of codes (n,) of rows and (m,) of samples; their distance is half the sum of their shares' differences."""
    shown = [label[:LONGEST] for label in labels[:MOST_LABELS]] + ["others"] * (len(labels) > MOST_LABELS)
    both = [np.bincount(np.minimum(part.astype(int), len(shown) - 1), minlength=len(shown)) for part in parts]
    shares = [each / max(1, each.sum()) for each in both]
    differ = short(float(np.abs(shares[0] - shares[1]).sum() / 2)) if all(map(len, parts)) else 0.0
    return Marginal(column=column, labels=shown, distance=differ, rows=both[0].tolist(), samples=both[1].tolist())
