"""``flowbench time``: what a density, a sample and a training step cost, beside what they must and what others do."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from flowbench import flows
from flowbench.config import FlowOptions, packaged_layers, resolve, user_layers
from flowbench.console import note
from flowbench.data import load
from flowbench.errors import UsageError, did_you_mean
from flowbench.flows import Flow
from flowbench.results.costs import Cost, Exponent, Missing, Shape, TimeRecord
from flowbench.timing import peers, scaling
from flowbench.timing.peer_process import PeerProcess, shortage
from flowbench.timing.peer_worker import Order
from flowbench.timing.worker_process import running
from flowbench.timing.works import Way, evaluation, inverted_by, passes_taken, textbook_sampling, works
from flowbench.timing.yardsticks import connections, matrix_rate, peak_bytes
from flowbench.training.clock import Runner, Sample, measure, repeated, runner
from flowbench.training.environment import environment
from flowbench.training.needs import room_to_train


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
    """What to time, and beside what: other ``ways`` to invert, peers. ``on_run`` is told what is about to be run."""

    batches: tuple[int, ...]
    seconds: float
    ways: tuple[Way, ...] = ()
    peers: bool = False
    peers_best: bool = False
    scaling: bool = False
    on_run: Callable[[str], None] = lambda what: None


def time_flows(chosen: dict[str, FlowOptions], rows: Tensor, data: str, plan: Plan) -> Iterator[TimeRecord]:
    """Time all flows on ``rows`` (N, D): the record so far after each work, and the finished one in the end."""
    began, device, threads = time.perf_counter(), str(rows.device), torch.get_num_threads()
    plan.on_run("matrix products")
    rate = matrix_rate(device)
    beside = f"{plan.ways} {plan.peers} {plan.peers_best} {plan.scaling}"
    what = f"{chosen} {data} {plan.batches} {plan.seconds} {beside} {device} {threads}"
    kind = "scaling" if plan.scaling else data
    empty = TimeRecord(
        run=f"time-{'-'.join(chosen)}-{kind}-{hashlib.sha256(what.encode()).hexdigest()[:8]}",
        data=data,
        matrix_gflops=rate / 1e9,
        environment=environment(device, threads, (*peers.NAMES, "jax") if plan.peers else ()),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        total_seconds=0.0,
        finished=False,
    )
    shapes: list[Shape] = []
    exponents: list[Exponent] = []

    def record(**more: Any) -> TimeRecord:
        found = {"shapes": shapes, "exponents": exponents, "total_seconds": time.perf_counter() - began}
        return empty.model_copy(update=found | more)

    for name, options in chosen.items():
        if plan.scaling:
            exponents += scaling.exponents(name, options, max(plan.batches), plan.seconds, device, plan.on_run)
            yield record()
        else:
            for shape in time_shape(name, options, rows, plan, rate):
                yield record(shapes=[*shapes, shape])
            shapes.append(shape)
    yield record(finished=True)


def time_shape(name: str, options: FlowOptions, rows: Tensor, plan: Plan, rate: float) -> Iterator[Shape]:
    """Time one flow on ``rows`` (N, D) at each batch size, its peers in turns with it: what is known after each work.

    ``rate`` is that of the machine in matrix products, in operations a second.
    """
    torch.manual_seed(0)
    with room_to_train(rows.device):
        flow = flows.build(name, rows.shape[1], options).to(rows.device)
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    shape = Shape(flow=name, dim=flow.dim, options=options.model_dump(), parameters=parameters, costs=[])
    for batch in plan.batches:
        with ExitStack() as stack:
            timed = _Batch(shape, flow, repeated(rows, batch), rate)
            rivals = [stack.enter_context(peer) for peer in _peers(shape, timed.rows, plan)]
            for work in timed.works:
                costs, missing = timed.costs(work, rivals, plan)
                shape = shape.model_copy(
                    update={"costs": [*shape.costs, *costs], "missing": [*shape.missing, *missing]}
                )
                yield shape


class _Batch:
    """A flow and a batch of rows (N, D), and what is done with them."""

    def __init__(self, shape: Shape, flow: Flow, rows: Tensor, rate: float) -> None:
        self.name, self.flow, self.rows, self._rate = shape.flow, flow, rows, rate
        self.works = works(flow, rows)
        # for the count of memory, steps that are no graph yet: one keeps its memory for good
        self._fresh = works(copy.deepcopy(flow), rows)

    def costs(self, work: str, rivals: Sequence[PeerProcess], plan: Plan) -> tuple[list[Cost], list[Missing]]:
        """The figures of one work: flowbench's, other inverses' and the peers', in turns; and those not to be had."""
        batch = len(self.rows)
        runners: dict[str, Runner] = {self.name: runner(self.works[work])}
        others = self._others(work, plan.ways)
        runners |= {name: runner(evaluation(flow, self.rows)[work]) for name, (_, flow) in others.items()}
        missing = []
        for rival in rivals:
            plan.on_run(f"{rival.name} {work} @ {batch}: will it fit into memory?")
            if reason := shortage(rival, work):
                missing.append(_missing(rival.name, work, batch, f"skipped: {reason}"))
            else:
                runners[rival.name] = partial(rival.run, work)
        samples = measure(runners, plan.seconds, lambda model: plan.on_run(f"{model} {work} @ {batch}"))
        own = samples.pop(self.name)
        ours = _cost(self.name, work, batch, own).model_copy(update=self._yardsticks(work))
        costs = [ours]
        for model, sample in samples.items():
            if sample.failure:
                missing.append(_missing(model, work, batch, f"failed: {sample.failure}"))
            else:
                about = _about(*others[model]) if model in others else {}
                costs.append(_cost(model, work, batch, sample).model_copy(update={"ours_us": ours.us} | about))
        return costs, missing

    def _others(self, work: str, ways: Sequence[Way]) -> dict[str, tuple[Way, Flow]]:
        """By its name in the table each way, and the flow inverted so: where that is the work."""
        if work != ("sampling" if textbook_sampling(self.flow) else "density"):
            return {}
        built = ((way, inverted_by(self.flow, way)) for way in ways)
        return {f"{self.name}, {way.title(flow.dim)}": (way, flow) for way, flow in built if flow}

    def _yardsticks(self, work: str) -> dict[str, Any]:
        """The arithmetic at the rate of large products, the number of passes, and the memory."""
        arithmetic = 2 * connections(self.flow) * len(self.rows) / self._rate * 1e6 * (3 if work == "step" else 1)
        passes = {"density": self.flow.transform.density_passes, "sampling": self.flow.transform.sampling_passes}
        peak = peak_bytes(self._fresh[work], str(self.rows.device))
        return {"passes": passes.get(work), "arithmetic_us": arithmetic or None, "peak_bytes": peak}


def _cost(model: str, work: str, batch: int, sample: Sample) -> Cost:
    q1, median, q3 = sample.quartiles(1e6)
    return Cost(
        model=model,
        work=cast("Any", work),
        batch=batch,
        us=median,
        us_q1=q1,
        us_q3=q3,
        first_us=sample.first * 1e6,
        runs=sample.runs,
    )


def _about(way: Way, flow: Flow) -> dict[str, Any]:
    taken, one_pass = passes_taken(flow)
    return {"inverse": way.name, "tolerance": way.tolerance, "passes_taken": taken, "one_pass": one_pass}


def _missing(model: str, work: str, batch: int, reason: str) -> Missing:
    return Missing(model=model, work=cast("Any", work), batch=batch, reason=reason)


def _peers(shape: Shape, rows: Tensor, plan: Plan) -> Iterator[Any]:
    """The peers of a plan that have such a flow, each in a process that ends with its context."""
    hidden, transforms = (shape.options.get(key) for key in ("hidden", "transforms"))
    model = peers.Model(shape.flow, shape.dim, tuple(hidden or ()), transforms or 0)
    device, size = str(rows.device), (len(rows), shape.dim)
    for peer in peers.NAMES if plan.peers else ():
        if reason := peers.obstacle(peer, model, rows.device.type):
            note(f"{peer} is left out of {shape.flow}: {reason}")
            continue
        best = peers.best_of(peer, device) if plan.peers_best else None
        for name, built in ((peer, model), (best, replace(model, best=True))):
            if name is not None:
                order = Order(f"{peers.__name__}:{peer}", built, size, device)
                yield running(PeerProcess(name, order, rows.cpu().numpy(), torch.get_num_threads()))
