"""One side of a comparison, ``python -m flowbench.timing.worker``: each side runs that of its own flowbench.

It reads a line of JSON that says what to build, the rows, and then the requests. What is said here is said between two
versions of flowbench: a change of meaning raises ``PROTOCOL``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

import torch

from flowbench import flows
from flowbench.config import PACKAGE, FlowOptions, resolve
from flowbench.errors import FlowbenchError
from flowbench.flows import Flow
from flowbench.timing import yardsticks
from flowbench.timing.peers import Rows
from flowbench.timing.serving import prepare, read_rows, serve
from flowbench.timing.training_memory import training_bytes
from flowbench.timing.works import works
from flowbench.training.clock import Runner, runner
from flowbench.training.environment import environment, resolve_device
from flowbench.training.needs import room_to_train

PROTOCOL = 1


@dataclass(frozen=True)
class Order:
    """What both sides build: the flow of that name with ``settings``, for rows of shape (N, D).

    ``defaults`` are settings at their defaults on the side that asks. One that this side does not know is passed over:
    a flowbench without the setting does what is its default now.
    """

    flow: str
    settings: dict[str, Any]
    defaults: dict[str, Any]
    shape: tuple[int, int]
    device: str
    threads: int
    protocol: int = PROTOCOL


class Worker:
    """Times the works of one flow, and counts their memory."""

    def __init__(self, order: Order, rows: Rows) -> None:
        self._order = order
        torch.set_num_threads(order.threads)
        self._rows = torch.from_numpy(rows.copy()).to(resolve_device(order.device))
        self._runners: dict[str, Runner] = {}

    def hello(self) -> dict[str, Any]:
        """Which flowbench this is, what can be timed, and why what was asked for cannot be built, if it cannot."""
        found: dict[str, Any] = {"protocol": PROTOCOL, "refused": None, "works": []}
        try:
            found["works"] = list(works(self._build(), self._rows))
        except FlowbenchError as error:
            found["refused"] = " · ".join(filter(None, (str(error), error.hint)))
        about = environment(self._order.device, self._order.threads)
        return found | {"package": str(PACKAGE), "environment": about.model_dump(mode="json")}

    def seconds(self, work: str, runs: int) -> float:
        """Seconds of one of ``runs`` runs of a work."""
        if work not in self._runners:
            # a flow of its own: none has to follow what a step does to the weights
            self._runners[work] = runner(works(self._build(), self._rows)[work])
        return self._runners[work](runs)

    def peak_bytes(self, work: str) -> int:
        """The most memory that one warm run of a work takes."""
        run = works(self._build(), self._rows)[work]
        run()
        return yardsticks.peak_bytes(run, str(self._rows.device))

    def training_bytes(self) -> int | None:
        """What a whole run of training holds."""
        return training_bytes(self._build(), self._rows)

    def _build(self) -> Flow:
        order = self._order
        torch.manual_seed(0)
        with room_to_train(self._rows.device):
            flow = flows.build(order.flow, order.shape[1], _options(order))
        return flow.to(self._rows.device)


def _options(order: Order) -> FlowOptions:
    """The flow's settings, each of which it must know; of the asking side's defaults those that it knows."""
    where = {"device": "cpu", "threads": 1}  # of no matter to a flow's options
    about = {"flow": order.flow, "data": "", "recipe": "fast", "seed": 0, **where}
    return resolve(flows.load(order.flow).Options, order.defaults, order.settings, **about).model


def begin(requests: BinaryIO) -> Worker:
    """The worker that the first line and the rows after it ask for."""
    head = json.loads(requests.readline())
    known = {field.name for field in fields(Order)}
    order = Order(**{key: value for key, value in head.items() if key in known} | {"shape": tuple(head["shape"])})
    rows = read_rows(requests, order.shape)
    prepare(None)
    return Worker(order, rows)


if __name__ == "__main__":
    serve(begin)
