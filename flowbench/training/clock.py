"""How long a piece of work takes: medians and quartiles over many warm runs, the device waited for.

What is to be compared is run in turns, a little of each in each round: machines are noisy, and noise that comes and
goes then falls on all alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch.utils.benchmark import Timer

from flowbench.data.rows import Rows
from flowbench.errors import FlowbenchError
from flowbench.flows import Flow
from flowbench.results.record import Timing
from flowbench.tuning import GRAPH_WARM

BATCHES = (100, 1000)
ROUNDS, SECONDS = 10, 0.5
"""Rounds, and the time spent on each piece of work, at the least."""

BLOCK_SECONDS = 10e-3
"""Runs that are shorter are timed several at once, so that reading the clock does not count."""

LONG_SECONDS = 5.0
"""A warm run that took longer is the only one."""

Runner = Callable[[int], float]
"""Do a piece of work so many times; return the seconds a run took."""

K = TypeVar("K", bound=Hashable)


class WorkError(FlowbenchError):
    """A piece of work could not be done; others can be."""


@dataclass
class Sample:
    """Seconds of the first run, which compiles and allocates, and of the later ones; or why there are none."""

    first: float = math.nan
    later: list[float] = field(default_factory=list)
    failure: str | None = None

    def quartiles(self, scale: float) -> tuple[float, float, float]:
        """First quartile, median, third quartile, times a scale."""
        q1, median, q3 = np.quantile(self.later, [0.25, 0.5, 0.75]) * scale
        return float(q1), float(median), float(q3)

    def add(self, more: Sample) -> None:
        """Take in what was measured later; its first run is a warm one, and is not counted."""
        self.first = more.first if math.isnan(self.first) else self.first
        self.later += more.later
        self.failure = self.failure or more.failure

    def faster_half(self, scale: float) -> float:
        """The mean of the faster half, times a scale."""
        return float(np.mean(np.sort(self.later)[: (len(self.later) + 1) // 2])) * scale

    @property
    def runs(self) -> int:
        """How many measurements the quartiles are of."""
        return len(self.later)


def runner(work: Callable[[], object]) -> Runner:
    """Work in this process, timed by torch's own timer: the device waited for, garbage collection off."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return lambda runs: float(timer.timeit(runs).mean) if runs > 1 else float(timer._timeit(1))


def measure(
    runners: Mapping[K, Runner],
    seconds: float | None = None,
    on_run: Callable[[K], None] = lambda name: None,
    block_seconds: float | None = None,
    rounds: int | None = None,
) -> dict[K, Sample]:
    """Time each runner in turns, for so many seconds each at the least; ``on_run`` is told of each before it is run.

    A turn is as many runs as take ``block_seconds``; there are ``rounds`` of them, or fewer where they are long.

    A runner's ``WorkError`` becomes its sample's ``failure``; the others go on.
    """
    seconds = SECONDS if seconds is None else seconds
    block_seconds = BLOCK_SECONDS if block_seconds is None else block_seconds
    rounds = ROUNDS if rounds is None else rounds
    samples = {name: Sample() for name in runners}

    def turn(name: K, runs: int) -> float:
        on_run(name)
        try:
            return runners[name](runs)
        except WorkError as error:
            samples[name].failure = str(error)
            return math.inf

    for name, sample in samples.items():
        sample.first = turn(name, 1)
    at_once = {}
    for name, sample in samples.items():
        once = math.inf if sample.failure else turn(name, 1)
        for _ in range(GRAPH_WARM if torch.cuda.is_available() and once < LONG_SECONDS else 0):
            once = turn(name, 1)  # on CUDA the third step is the one that captures its graph
        if once < LONG_SECONDS:
            at_once[name] = max(1, math.ceil(block_seconds / max(once, 1e-7)))
        else:
            sample.later.append(once)
    while at_once:
        for name, runs in at_once.items():
            samples[name].later.append(turn(name, runs))
        # never in the opposite order, or the last would run twice on end, its caches warm
        at_once = {name: runs for name, runs in at_once.items() if not _enough(samples[name], runs, seconds, rounds)}
    return samples


def _enough(sample: Sample, at_once: int, seconds: float, rounds: int) -> bool:
    if sample.failure:
        return True
    spent = sum(sample.later) * at_once
    # rounds of a long run are few: three of them tell a median
    return spent >= seconds and len(sample.later) >= (rounds if spent < rounds * seconds else 3)


@torch.no_grad()
def time_flow(flow: Flow, rows: Rows, batches: tuple[int, ...] = BATCHES) -> list[Timing]:
    """Time a density of ``rows`` (N, G + D), repeated as often as a batch needs, and a sample, at each batch size."""
    first = rows[: max(batches)]
    return [_time_batch(_works(flow, first, batch), batch) for batch in batches]


@torch.no_grad()
def time_flow_seconds(
    flow: Flow, rows: Rows, seconds_of: Callable[[Callable[[], object]], float], batches: tuple[int, ...] = BATCHES
) -> float:
    """The seconds that `time_flow` will take, by those of each piece of work."""
    first = rows[: max(batches)]
    return sum(measuring(seconds_of(work)) for batch in batches for work in _works(flow, first, batch).values())


def measuring(once: float) -> float:
    """The seconds that `measure` takes for a piece of work: two runs, then its rounds."""
    block = max(once, BLOCK_SECONDS)
    return 2 * once + (
        0.0 if once >= LONG_SECONDS else min(max(SECONDS, ROUNDS * block), max(ROUNDS * SECONDS, 3 * once))
    )


def repeated(rows: torch.Tensor, batch: int) -> torch.Tensor:
    """As many rows as a batch has, from few or many."""
    return rows.repeat(-(-batch // len(rows)), 1)[:batch].contiguous()


def _works(flow: Flow, first: torch.Tensor, batch: int) -> dict[str, Callable[[], object]]:
    rows = repeated(first, batch)
    given, _ = flow.apart(rows)
    return {"density": lambda: flow.log_prob(rows), "sampling": lambda: flow.sample(batch, given=given)}


def _time_batch(works: Mapping[str, Callable[[], object]], batch: int) -> Timing:
    samples = measure({name: runner(work) for name, work in works.items()})
    micro = 1e6 / batch
    (density_q1, density_q2, density_q3), (sampling_q1, sampling_q2, sampling_q3) = (
        samples[name].quartiles(micro) for name in works
    )
    return Timing(
        batch=batch,
        density_us_per_row=density_q2,
        density_us_per_row_q1=density_q1,
        density_us_per_row_q3=density_q3,
        sampling_us_per_row=sampling_q2,
        sampling_us_per_row_q1=sampling_q1,
        sampling_us_per_row_q3=sampling_q3,
        runs=min(sample.runs for sample in samples.values()),
        first_density_us_per_row=samples["density"].first * micro,
        first_sampling_us_per_row=samples["sampling"].first * micro,
    )
