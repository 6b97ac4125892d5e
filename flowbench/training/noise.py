"""Whether the noise u = f(x) of test rows is what a flow takes it for, column by column: standard normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowbench.flows import Flow
from flowbench.flows.core.batches import rows_at_once
from flowbench.flows.core.conditionals import has_one_order, order_of_noise
from flowbench.results.sketch import MOST_NAMED, PIT_BINS, Calibration
from flowbench.training.histograms import distances_from_normal, short


@dataclass(frozen=True)
class Noise:
    """The calibration of some columns of u, the ``distances`` of all, and whether u_i is the conditional's own."""

    calibration: list[Calibration]
    distances: list[float]
    exact: bool


def no_noise(flow: Flow, discrete: bool) -> str | None:
    """Why rows, a part of which may be ``discrete``, have no noise; None where they have."""
    if discrete:
        return "part of a row is discrete, which no noise stands for"
    if flow.bijective:
        return None
    if len(flow.parts) > 1 or flow.parts[0] is not flow:
        return "it is a mean of several densities, each with a noise of its own"
    return "this density is no map of rows to noise"


@torch.no_grad()
def noise(flow: Flow, rows: Tensor, columns: NDArray[np.intp]) -> Noise:
    """The noise of ``rows`` (N, G + D) of a flow that is a map to it, and of these of its columns its histograms.

    A column of u that began as x_i, whatever order the flow takes them in, is column i. What is not finite counts as
    infinitely far out. By Rosenblatt (1952), u_i = Φ⁻¹(F(x_i | x_<i)) of all triangular maps to N(0, I).
    """
    places = order_of_noise(flow).argsort()
    parts = rows.split(rows_at_once(flow))
    moved = (flow.apart(flow.to_noise(part)[0])[1][:, places[:MOST_NAMED].to(part.device)] for part in parts)
    u = torch.cat([part.cpu() for part in moved]).double().nan_to_num(torch.inf, torch.inf, -torch.inf)
    distances = distances_from_normal(u)
    found = [_calibration(i, u[:, i], distances[i]) for i in columns.tolist()]
    return Noise(found, distances, has_one_order(flow))


def _calibration(column: int, u: Tensor, distance: float) -> Calibration:
    counts = np.histogram(torch.special.ndtr(u).numpy(), PIT_BINS, (0.0, 1.0))[0].tolist()
    finite = u[u.isfinite()]
    mean = short(float(finite.mean())) if len(finite) else None
    sd = short(float(finite.std())) if len(finite) > 1 else None
    return Calibration(column=column, mean=mean, sd=sd, distance=distance, counts=counts)
