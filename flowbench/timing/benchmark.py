"""``flowbench time``: what a density, a sample and a training step cost, beside what they must and what others do."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from flowbench import flows
from flowbench.config import FlowOptions, TrainingOptions, packaged_layers, resolve, user_layers
from flowbench.console import note
from flowbench.data import load
from flowbench.errors import UsageError, did_you_mean
from flowbench.flows import Flow
from flowbench.results.costs import WORKS, Cost, Exponent, Shape, TimeRecord
from flowbench.timing import peers
from flowbench.timing.clock import Runner, Sample, measure, repeated, runner
from flowbench.timing.yardsticks import connections, matrix_rate, peak_bytes
from flowbench.training.environment import environment
from flowbench.training.step import Descent
from flowbench.transforms import Chain, Inverse, MaskedAutoregressive, Pair, Transform

SCALING_DIMS = (64, 128, 256, 512, 1024)


def choose(
    names: Sequence[str], data: str | None, settings: Sequence[str], as_peers: bool = False
) -> dict[str, FlowOptions]:
    """The flows' options: the data's sizes and what peers have; on top what is set, which some flow must know.

    Raises:
        UsageError: an unknown flow, or a setting that none has, or of a wrong value.
    """
    user = user_layers(None, settings)
    kinds = {name: flows.load(name).Options for name in names}
    known = {key for kind in kinds.values() for key in kind.model_fields}
    for key in user:
        if key not in known:
            raise UsageError(f"none of these flows has a setting {key!r}", hint=did_you_mean(key, known))
    chosen = {}
    for name, kind in kinds.items():
        own = {key: value for key, value in user.items() if key in kind.model_fields}
        packaged = packaged_layers(name, data or "", "fast") | (peers.ALIKE if as_peers else {})
        where = {"device": "cpu", "threads": 1}  # of no matter to a flow's options
        chosen[name] = resolve(kind, packaged, own, flow=name, data=data or "", recipe="fast", seed=0, **where).model
    return chosen


def rows(data: str | None, dim: int, device: str) -> tuple[str, Tensor]:
    """A dataset's name and test rows, 10,000 at the most, or standard normal ones of ``dim`` columns."""
    if data is None:
        return f"d{dim}", torch.randn(1000, dim, generator=torch.Generator().manual_seed(0)).to(device)
    dataset = load(data, allow_partial=True)
    return dataset.name, torch.from_numpy(np.array(dataset.test[:10_000])).to(device)


@dataclass(frozen=True)
class Plan:
    """What to time, and beside what."""

    batches: tuple[int, ...]
    seconds: float
    passes: bool = False
    peers: bool = False


class ByPasses(Transform):
    """A masked autoregressive transform inverted as textbooks do, by D passes."""

    def __init__(self, transform: MaskedAutoregressive) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Pair:
        """The transform's own."""
        return self.transform(x)

    def inverse(self, u: Tensor) -> Pair:
        """D passes of the network."""
        return self.transform.inverse_by_passes(u)


def by_passes(flow: Flow) -> Flow | None:
    """The same flow, inverted by passes; None where nothing in it is autoregressive."""
    own = copy.deepcopy(flow).eval()  # its batch normalisation stays in evaluation, whatever the flow does meanwhile
    leaves = list(own.transform.leaves())
    if not any(isinstance(leaf, MaskedAutoregressive) for leaf, _ in leaves):
        return None
    slow = [(ByPasses(leaf) if isinstance(leaf, MaskedAutoregressive) else leaf, inverted) for leaf, inverted in leaves]
    chain = Chain(Inverse(leaf) if inverted else leaf for leaf, inverted in slow)
    return Flow(flow.dim, chain).to(flow.base.origin.device).eval()


def time_shape(
    name: str, options: FlowOptions, rows: Tensor, plan: Plan, rate: float, on_run: Callable[[str], None]
) -> Shape:
    """Time one flow on ``rows`` (N, D) at each batch size, its peers in turns with it."""
    torch.manual_seed(0)
    dim = rows.shape[1]
    flow = flows.load(name).build(dim, options).to(rows.device)
    costs = [
        cost for batch in plan.batches for cost in _time_batch(flow, name, options, rows, batch, plan, rate, on_run)
    ]
    return Shape(
        flow=name,
        dim=dim,
        options=options.model_dump(),
        parameters=sum(parameter.numel() for parameter in flow.parameters()),
        costs=costs,
    )


Key = tuple[str, str]
"""A model and a work of its."""


def _time_batch(
    flow: Flow,
    name: str,
    options: FlowOptions,
    rows: Tensor,
    batch: int,
    plan: Plan,
    rate: float,
    on_run: Callable[[str], None],
) -> Iterator[Cost]:
    rows = repeated(rows, batch)
    with ExitStack() as stack:
        works = _own_works(flow, rows)
        runners: dict[Key, Runner] = {(name, work): runner(run) for work, run in works.items()}
        if plan.passes and (textbook := by_passes(flow)):
            slow = "sampling" if flow.transform.sampling_passes > 1 else "density"
            runners[f"{name}, {flow.dim} passes", slow] = runner(_evaluation(textbook, rows)[slow])
        if plan.peers:
            runners |= _peer_runners(name, options, rows, stack)
        samples = measure(runners, plan.seconds, lambda key: on_run(f"{' '.join(key)} @ {batch}"))
    fresh = _own_works(copy.deepcopy(flow), rows)  # steps that are no graph yet: one keeps its memory for good
    arithmetic = 2 * connections(flow) * batch / rate * 1e6
    passes = {"density": flow.transform.density_passes, "sampling": flow.transform.sampling_passes}
    for (model, work), sample in samples.items():
        cost = _cost(model, work, batch, sample)
        if model != name:
            yield cost.model_copy(update={"ours_us": samples[name, work].quartiles(1e6)[1]})
            continue
        arithmetic_us = arithmetic * 3 if work == "step" else arithmetic
        peak = peak_bytes(fresh[work], str(rows.device))
        own = {"passes": passes.get(work), "arithmetic_us": arithmetic_us or None, "peak_bytes": peak}
        yield cost.model_copy(update=own)


def _cost(model: str, work: Any, batch: int, sample: Sample) -> Cost:
    q1, median, q3 = sample.quartiles(1e6)
    return Cost(
        model=model,
        work=work,
        batch=batch,
        us=median,
        us_q1=q1,
        us_q3=q3,
        first_us=sample.first * 1e6,
        runs=sample.runs,
    )


def _evaluation(flow: Flow, rows: Tensor) -> dict[str, Callable[[], object]]:
    """Densities and samples as a user takes them."""

    def evaluating(work: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            if flow.training:
                flow.eval()
            with torch.no_grad():
                return work()

        return run

    return {
        "density": evaluating(lambda: flow.log_prob(rows)),
        "sampling": evaluating(lambda: flow.sample(len(rows))),
    }


def _own_works(flow: Flow, rows: Tensor) -> dict[str, Callable[[], object]]:
    """``_evaluation``, and a step as training does it, at a rate that changes nothing much."""
    works = _evaluation(flow, rows)
    if any(parameter.requires_grad for parameter in flow.parameters()):
        descent = Descent(flow, TrainingOptions.model_validate({}))

        def step() -> None:
            if not flow.training:
                flow.train()
            descent.step(rows, 1e-6)

        works["step"] = step
    return works


def _peer_runners(name: str, options: FlowOptions, rows: Tensor, stack: ExitStack) -> dict[Key, Runner]:
    sizes = options.model_dump()
    model = peers.Model(name, rows.shape[1], tuple(sizes.get("hidden", ())), sizes.get("transforms", 0))
    found: dict[Key, Runner] = {}
    for peer in peers.NAMES:
        if reason := peers.obstacle(peer, model, rows.device.type):
            note(f"{peer} is left out of {name}: {reason}")
        elif peer in peers.ON_TORCH:
            found |= {(peer, work): runner(run) for work, run in peers.on_torch(peer, model, rows).items()}
        else:
            process = peers.FlowjaxProcess(model, rows.cpu().numpy(), torch.get_num_threads())
            stack.callback(process.close)
            found |= {(peer, work): partial(process.run, work) for work in WORKS}
    return found


def scaling(
    name: str, options: FlowOptions, dims: Sequence[int], batch: int, seconds: float, device: str, on_run: Any
) -> list[Exponent]:
    """Time both directions of one flow at each number of columns, its widths fixed; fit the exponents."""
    costs: dict[str, list[float]] = {"density": [], "sampling": []}
    for dim in dims:
        torch.manual_seed(0)
        flow = flows.load(name).build(dim, options).to(device)
        works = _evaluation(flow, torch.randn(batch, dim, device=device))
        runners = {work: runner(works[work]) for work in costs}
        samples = measure(runners, seconds, lambda work, dim=dim: on_run(f"{name} {work} D={dim}"))  # type: ignore[misc]
        for work, found in costs.items():
            found.append(samples[work].quartiles(1e6 / batch)[1])
    return [
        Exponent(
            flow=name, work=cast("Any", work), exponent=_slope(dims, found), dims=tuple(dims), us_per_row=tuple(found)
        )
        for work, found in costs.items()
    ]


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def time_flows(
    chosen: dict[str, FlowOptions],
    rows: Tensor,
    data: str,
    plan: Plan,
    scale: bool,
    on_run: Callable[[str], None],
) -> TimeRecord:
    """Time all flows; the row that says it, named after what was timed."""
    began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    device = str(rows.device)
    on_run("matrix products")
    rate = matrix_rate(device)
    exponents: list[Exponent] = []
    shapes: list[Shape] = []
    for name, options in chosen.items():
        if scale:
            exponents += scaling(name, options, SCALING_DIMS, max(plan.batches), plan.seconds, device, on_run)
        else:
            shapes.append(time_shape(name, options, rows, plan, rate, on_run))
    what = f"{chosen} {data} {plan} {scale} {device} {torch.get_num_threads()}"
    return TimeRecord(
        run=f"time-{'-'.join(chosen)}-{'scaling' if scale else data}-{hashlib.sha256(what.encode()).hexdigest()[:8]}",
        data=data,
        matrix_gflops=rate / 1e9,
        shapes=shapes,
        exponents=exponents,
        environment=environment(device, torch.get_num_threads(), (*peers.NAMES, "jax") if plan.peers else ()),
        started_at=started,
        total_seconds=time.perf_counter() - began,
    )
