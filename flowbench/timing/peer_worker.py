"""A peer's own process, ``python -m flowbench.timing.peer_worker``.

It reads a line of JSON that says what to build, the rows, and then the requests.
"""

from __future__ import annotations

import gc
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO

from flowbench import memory
from flowbench.timing.peers import Model, Rows, Works
from flowbench.timing.serving import prepare, read_rows, serve


@dataclass(frozen=True)
class Order:
    """What a worker builds: ``adapter`` (``module:function``) is called with the model, the rows and the device.

    ``shape`` is that of the rows (N, D). Beyond ``available`` bytes it is refused memory.
    """

    adapter: str
    model: Model
    shape: tuple[int, int]
    device: str
    available: int | None = None


class Worker:
    """Times the works of one model."""

    def __init__(self, order: Order, rows: Rows) -> None:
        self._order, self._rows = order, rows
        module, _, function = order.adapter.partition(":")
        self._build: Callable[..., Works] = getattr(importlib.import_module(module), function)

    @cached_property
    def _works(self) -> Works:
        return self._build(self._order.model, self._rows, self._order.device)

    def seconds(self, work: str, runs: int) -> float:
        """Seconds of one of ``runs`` runs of a work, garbage collection off, as torch's own timer does it."""
        run = getattr(self._works, work)
        gc.disable()
        began = time.perf_counter()
        for _ in range(runs):
            run()
        self._works.wait()
        seconds = (time.perf_counter() - began) / runs
        gc.enable()
        held, available = memory.held_bytes(), self._order.available
        if held and available and held > available / 8:  # what it keeps while it is idle, others lack
            memory.give_back_freed()
        return seconds

    def peak_bytes(self, work: str, dim: int) -> int | None:
        """The most memory that a work takes for its run with the first ``dim`` columns only."""
        works = self._build(replace(self._order.model, dim=dim), self._rows[:, :dim].copy(), self._order.device)
        run = getattr(works, work)
        run()  # compiles, and makes what lasts
        return memory.peak_bytes(run)


def begin(requests: BinaryIO) -> Worker:
    """The worker that the first line and the rows after it ask for."""
    head = json.loads(requests.readline())
    head["model"] = Model(**{**head["model"], "hidden": tuple(head["model"]["hidden"])})
    order = Order(**{**head, "shape": tuple(head["shape"])})
    rows = read_rows(requests, order.shape)
    prepare(order.available)
    return Worker(order, rows)


if __name__ == "__main__":
    serve(begin)
