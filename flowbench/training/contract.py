"""The contract that every flow keeps, held against one: what `flowbench check` prints and the tests walk the folder by.

Mathematics is checked in float64, on a flow whose weights are not special: shaken out of their initial state.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from flowbench.config import FlowOptions
from flowbench.console import plural
from flowbench.flows import Flow, FlowFile, built
from flowbench.flows.core.density import log_likelihoods
from flowbench.results.record import Check
from flowbench.training import weights
from flowbench.training.calibration import calibrate
from flowbench.training.checks import checks
from flowbench.transforms import Network

SMALL: dict[str, object] = {"hidden": (11, 13), "transforms": 3}
"""Sizes, where a flow has such settings."""

DIMS = (1, 2, 5)


def small(module: FlowFile, dim: int, **settings: object) -> Flow:
    """A flow of this file over ``dim`` columns, in double precision; see `shake`."""
    torch.manual_seed(dim)
    flow = built(module, dim, _small_options(module, settings)).double()
    shake(flow, torch.randn(50 * dim, dim, dtype=torch.double) @ torch.randn(dim, dim, dtype=torch.double))
    return flow.eval()


def _small_options(module: FlowFile, settings: Mapping[str, object]) -> FlowOptions:
    known = module.Options.model_fields
    return module.Options.model_validate({key: value for key, value in {**SMALL, **settings}.items() if key in known})


def shake(flow: Flow, rows: Tensor) -> None:
    """Move biases, scales and statistics away from where they begin; weights that masks forbid stay zero."""
    flow.fit_closed_form(rows[::2], rows[1::2])
    networks = [module for module in flow.modules() if isinstance(module, Network)]
    own = {id(network.flat) for network in networks}
    with torch.no_grad():
        for network in networks:
            for view in network.packing.views(network.flat):
                view.bias.normal_(std=0.3)
        for parameter in flow.parameters():
            if id(parameter) not in own:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    calibrate(flow, rows)


def examine(module: FlowFile, name: str) -> Iterator[tuple[str, Check]]:
    """Each property at each number of columns, one after the other: a label, and whether it holds."""
    with torch.random.fork_rng(devices=[]):
        for dim in DIMS:
            flow, size = small(module, dim), plural(dim, "column")
            rows = flow.sample(40).detach()  # where it has density: far outside, rounding alone may be large
            for label, check in checks(flow, rows, log_likelihoods(flow, rows)).items():
                yield f"{label}, {size}", check
            yield f"gradients, {size}", Check.of(_gradients(flow, rows), 1e-5, "directional against differences")
            if flow.bijective:
                yield (
                    f"engine, {size}",
                    Check.of(_engine(flow, rows), 1e-9, "max |by the engine - as written|, rel."),
                )
            yield f"rows, {size}", Check.of(_rows(flow, rows), 1e-9, "max |together - alone|, in evaluation")
            yield (
                f"samples, {size}",
                Check.of(_samples(flow), 1e-8, "max |log-density - as given with draws|"),
            )
        yield "integral, 2 columns", Check.of(_integral(small(module, 2)), 2e-3, "|mass of the plane - 1|")
        yield "save and load", Check.of(_saved(module, name), 0.0, "max |log-density - after saving and loading|")


def _gradients(flow: Flow, rows: Tensor) -> float:
    """Of rows and parameters, in a random direction each: how far from finite differences, relative to their size."""
    x = rows.clone().requires_grad_()
    tensors = [x, *flow.parameters()]
    gradients = torch.autograd.grad(flow(x).mean(), tensors, materialize_grads=True)
    worst = 0.0
    for tensor, gradient in zip(tensors, gradients, strict=True):
        # weights that masks forbid stay where they are
        direction = torch.randn_like(tensor) * (tensor != 0)
        with torch.no_grad():
            tensor += 1e-6 * direction
            above = flow(x).mean()
            tensor -= 2e-6 * direction
            below = flow(x).mean()
            tensor += 1e-6 * direction
        slope = float(above - below) / 2e-6
        worst = max(worst, abs(float((gradient * direction).sum()) - slope) / (1 + abs(slope)))
    return worst


@torch.no_grad()
def _engine(flow: Flow, rows: Tensor) -> float:
    pairs = ((flow.to_noise(rows), flow.transform(rows)), (flow.to_data(rows), flow.transform.inverse(rows)))
    return max(
        float(((a - b).abs() / (1 + b.abs())).max())
        for fast, written in pairs
        for a, b in zip(fast, written, strict=True)
    )


@torch.no_grad()
def _rows(flow: Flow, rows: Tensor) -> float:
    return float((flow(rows) - torch.cat([flow(row[None]) for row in rows])).abs().max())


@torch.no_grad()
def _samples(flow: Flow) -> float:
    x, log_prob = flow.sample_and_log_prob(50, torch.Generator().manual_seed(1))
    return float((flow(x) - log_prob).abs().max())


@torch.no_grad()
def _integral(flow: Flow) -> float:
    draws = flow.sample(4000, torch.Generator().manual_seed(1))
    centre, spread = draws.median(0).values, draws.std(0)
    # a point anywhere in each cell, since densities may jump, and the finer the cells the nearer to the bulk
    edges = 14 * torch.linspace(-4, 4, 1001, dtype=torch.double).sinh() / math.sinh(4)
    widths = torch.cartesian_prod(edges.diff(), edges.diff())
    points = torch.cartesian_prod(edges[:-1], edges[:-1]) + widths * torch.rand_like(widths)
    parts = zip((points * spread + centre).split(100_000), widths.prod(1).split(100_000), strict=True)
    mass = sum(float((flow(part).exp() * areas).sum()) for part, areas in parts)
    return abs(mass * float(spread.prod()) - 1)


@torch.no_grad()
def _saved(module: FlowFile, name: str) -> float:
    flow = small(module, 3).float()
    rows = torch.randn(20, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.safetensors"
        weights.save(path, flow, name, _small_options(module, {}), weights.About())
        again, _ = weights.load(path)
    return float((again(rows) - flow(rows)).abs().max())
