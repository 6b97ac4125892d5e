"""What a density and a sample cost: medians and quartiles over many runs, warm, the device waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from flowbench.flows import Flow
from flowbench.results import Timing

BATCHES = (100, 1000)
RUNS, SECONDS = 10, 0.5
"""Runs of a figure, and the time spent on them, at the least."""


@torch.no_grad()
def time_flow(flow: Flow, rows: torch.Tensor, batches: tuple[int, ...] = BATCHES) -> list[Timing]:
    """Time a density of ``rows`` (N, D), repeated as often as a batch needs, and a sample, at each batch size."""
    return [_time_batch(flow, _repeat(rows, batch), batch) for batch in batches]


def _repeat(rows: torch.Tensor, batch: int) -> torch.Tensor:
    return rows.repeat(-(-batch // len(rows)), 1)[:batch].contiguous()


def _time_batch(flow: Flow, rows: torch.Tensor, batch: int) -> Timing:
    density_first, density = _measure(lambda: flow.log_prob(rows), rows.device)
    sampling_first, sampling = _measure(lambda: flow.sample(batch), rows.device)
    micro = 1e6 / batch
    quartiles = [np.quantile(times, [0.25, 0.5, 0.75]) * micro for times in (density, sampling)]
    (density_q1, density_q2, density_q3), (sampling_q1, sampling_q2, sampling_q3) = quartiles
    return Timing(
        batch=batch,
        density_us_per_row=density_q2,
        density_us_per_row_q1=density_q1,
        density_us_per_row_q3=density_q3,
        sampling_us_per_row=sampling_q2,
        sampling_us_per_row_q1=sampling_q1,
        sampling_us_per_row_q3=sampling_q3,
        runs=min(len(density), len(sampling)),
        first_density_us_per_row=density_first * micro,
        first_sampling_us_per_row=sampling_first * micro,
    )


def _measure(work: Callable[[], object], device: torch.device) -> tuple[float, list[float]]:
    """Seconds of the first call, and of each of the later ones: at least RUNS, and SECONDS in all."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - began

    first = once()
    times = [once() for _ in range(RUNS)]
    while sum(times) < SECONDS:
        times += [once() for _ in range(RUNS)]
    return first, times
