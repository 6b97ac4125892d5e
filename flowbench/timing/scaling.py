"""How the cost of a row grows with the number of columns, at fixed widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch

from flowbench import flows
from flowbench.config import FlowOptions
from flowbench.results.costs import Exponent
from flowbench.timing.works import evaluation
from flowbench.training.clock import measure, runner
from flowbench.training.needs import room_to_train

DIMS = (64, 128, 256, 512, 1024)


def exponents(
    name: str, options: FlowOptions, batch: int, seconds: float, device: str, on_run: Callable[[str], None]
) -> list[Exponent]:
    """Time both directions of one flow at each number of columns, and fit the exponents."""
    costs: dict[str, list[float]] = {"density": [], "sampling": []}
    for dim in DIMS:
        torch.manual_seed(0)
        with room_to_train(device):
            flow = flows.build(name, dim, options).to(device)
        works = evaluation(flow, torch.randn(batch, dim, device=device))
        runners = {work: runner(works[work]) for work in costs}
        samples = measure(runners, seconds, lambda work, dim=dim: on_run(f"{name} {work} D={dim}"))  # type: ignore[misc]
        for work, found in costs.items():
            found.append(samples[work].quartiles(1e6 / batch)[1])
    return [
        Exponent(flow=name, work=cast("Any", work), exponent=slope(DIMS, found), dims=DIMS, us_per_row=tuple(found))
        for work, found in costs.items()
    ]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the logarithm of ``y`` over that of ``x``, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
