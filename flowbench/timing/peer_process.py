"""Peers in processes of their own: the death of one loses one figure. What cannot fit is foreseen, and not begun."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from typing import cast

import numpy as np

from flowbench import memory
from flowbench.timing.peer_worker import Order
from flowbench.timing.peers import Model, Rows
from flowbench.timing.worker_process import WorkerProcess, finding_this
from flowbench.training.clock import WorkError

MARGIN = 0.9
"""The part of the free memory that peers are granted; other programs live on the rest."""

KEPT = 4
"""How many times an activation or a weight stands in a graph, at the most, as ``most_bytes`` counts them."""


class PeerProcess(WorkerProcess):
    """A peer's process, which is told what to build."""

    def __init__(self, name: str, order: Order, rows: Rows, threads: int) -> None:
        surroundings = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(threads)}
        super().__init__(sys.executable, "flowbench.timing.peer_worker", finding_this() | surroundings)
        self.name, self.order, self._rows = name, order, rows
        self._done: set[str] = set()

    def run(self, work: str, runs: int) -> float:
        """Seconds of one of ``runs`` runs of a work.

        Raises:
            WorkError: the process died of it.
        """
        if self._process is None and work in self._done:  # another work's death: what is compiled is lost
            self.ask(what="seconds", work=work, runs=1)
        self._done.add(work)
        return float(self.ask(what="seconds", work=work, runs=runs))

    def peak_bytes(self, work: str, dim: int) -> int | None:
        """The most memory that a run of a work takes with the first ``dim`` columns only; None where no one tells.

        Raises:
            WorkError: the process died of it.
        """
        return cast("int | None", self.ask(what="peak_bytes", work=work, dim=dim))

    def _opening(self) -> bytes:
        free = memory.available_bytes()
        order = replace(self.order, available=None if free is None else int(free * MARGIN))
        return json.dumps(asdict(order)).encode() + b"\n" + np.ascontiguousarray(self._rows, dtype=np.float32).tobytes()


def shortage(process: PeerProcess, work: str) -> str | None:
    """Why a work would not fit into the memory that is free; None if it does, or if no one can tell.

    A peer's inverse runs its networks D times, and for gradients keeps all of it: D (α + β D) bytes. Two trials with
    fewer columns tell it for the whole (``extrapolated``). What fits in any case is begun without them.
    """
    model, batch = process.order.model, process.order.shape[0]
    free = memory.available_bytes() if process.order.device == "cpu" else None  # a GPU refuses, and no one dies
    few = max(2, model.dim // 8)
    more = 2 * few
    if free is None or more >= model.dim or most_bytes(model, batch, work) < free / 2:
        return None
    peaks = []
    for dim in (few, more):
        try:
            peaks.append(process.peak_bytes(work, dim))
        except WorkError as error:
            return f"a trial with {dim} of {model.dim} columns failed: {error}"
    if None in peaks:
        return None
    need = extrapolated((few, cast("int", peaks[0])), (more, cast("int", peaks[1])), model.dim)
    free = cast("int", memory.available_bytes())
    return None if need <= free * MARGIN else f"would need about {_gigabytes(need)}, {_gigabytes(free)} are free"


def most_bytes(model: Model, batch: int, work: str) -> int:
    """More than a peer holds for a work on ``batch`` rows: the activations and the weights of each pass that is kept.

    An IAF's step keeps D of them.
    """
    passes = model.dim if (model.flow, work) == ("iaf", "step") else 1
    widths = (model.dim, *model.hidden, 2 * model.dim)
    weights = sum(a * b for a, b in pairwise(widths))
    return KEPT * 4 * passes * model.transforms * (batch * sum(widths) + weights)


def extrapolated(few: tuple[int, float], more: tuple[int, float], dim: int) -> float:
    """The memory of a work with ``dim`` columns, from that with fewer, each given as (columns, bytes).

    Where it grew faster than the columns it is α D + β D², else a straight line: weights that each pass copies grow
    with D and there are D passes, while passes that are not kept hold a constant part.
    """
    (d1, p1), (d2, p2) = few, more
    if p2 * d1 > p1 * d2:
        curvature = (p2 / d2 - p1 / d1) / (d2 - d1)
        return dim * (p2 / d2 + curvature * (dim - d2))
    return p2 + max(0.0, (p2 - p1) / (d2 - d1)) * (dim - d2)


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.{0 if n_bytes >= 1e10 else 1}f} GB"
