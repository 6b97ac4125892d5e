"""The two sides of a comparison: this flowbench, and that of another interpreter. Each works in its own processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np

from flowbench.config import FlowOptions
from flowbench.errors import UsageError
from flowbench.results import costs
from flowbench.timing.peers import Rows
from flowbench.timing.worker import PROTOCOL, Order
from flowbench.timing.worker_process import WorkerProcess, finding_its_own, finding_this, running
from flowbench.training.clock import WorkError

MODULE = "flowbench.timing.worker"


@dataclass(frozen=True, eq=False)
class Subject:
    """A flow, and the rows (N, D) that are a batch; ``title`` is for a reader."""

    title: str
    flow: str
    options: FlowOptions
    rows: Rows
    device: str
    threads: int

    @property
    def order(self) -> Order:
        """What a worker is told."""
        settings, everything = (self.options.model_dump(mode="json", exclude_unset=unset) for unset in (True, False))
        defaults = {key: value for key, value in everything.items() if key not in settings}
        n, dim = self.rows.shape
        return Order(self.flow, settings, defaults, (n, dim), self.device, self.threads)


class SideProcess(WorkerProcess):
    """A process of one side, which is told what to build."""

    patience = 300.0

    def __init__(self, python: str, surroundings: Mapping[str, str], subject: Subject) -> None:
        super().__init__(python, MODULE, {**surroundings, "OMP_NUM_THREADS": str(subject.threads)})
        self._subject = subject

    def run(self, work: str, runs: int) -> float:
        """Seconds of one of ``runs`` runs of a work.

        Raises:
            WorkError: the process died of it.
        """
        return float(self.ask(what="seconds", work=work, runs=runs))

    def _opening(self) -> bytes:
        head = json.dumps(asdict(self._subject.order)).encode()
        return head + b"\n" + np.ascontiguousarray(self._subject.rows, dtype=np.float32).tobytes()


@dataclass(frozen=True)
class Side:
    """One of the two, by its interpreter; ``baseline`` is the one that the other is held against."""

    python: str
    baseline: bool

    @property
    def name(self) -> str:
        """As records and messages call it."""
        return "baseline" if self.baseline else "new"

    def process(self, subject: Subject) -> SideProcess:
        """A process of its own, not begun yet."""
        return SideProcess(self.python, finding_its_own() if self.baseline else finding_this(), subject)

    def unfit(self, reason: str) -> UsageError:
        """An error that says why it cannot be compared."""
        return UsageError(
            f"{self.python} {reason}", "--against takes the interpreter of an environment with another flowbench"
        )


def both(python: str) -> tuple[Side, Side]:
    """The baseline of that interpreter, and this flowbench."""
    return Side(python, baseline=True), Side(sys.executable, baseline=False)


def greet(sides: tuple[Side, Side], subject: Subject) -> list[tuple[costs.Side, list[str]]]:
    """Which flowbench each side has, and the works of a flow that it can do.

    Raises:
        UsageError: a side has none that can be compared, or it cannot build the flow.
    """
    with ExitStack() as stack:
        processes = {side: stack.enter_context(running(side.process(subject))) for side in sides}
        for side, process in processes.items():
            try:
                process.start()
            except OSError as error:
                raise side.unfit(f"cannot be started: {error.strerror or error}") from error
        return [_hello(side, process, subject) for side, process in processes.items()]


def _hello(side: Side, process: SideProcess, subject: Subject) -> tuple[costs.Side, list[str]]:
    try:
        hello = process.ask(what="hello")
    except WorkError as error:
        raise side.unfit(_missing(str(error))) from error
    if not isinstance(hello, dict) or hello.get("protocol") != PROTOCOL:
        raise side.unfit("has a flowbench too far from this one: they do not understand each other")
    if hello["refused"]:
        raise UsageError(f"{side.python} cannot build this {subject.flow}: {hello['refused']}")
    return costs.Side(python=side.python, **hello), hello["works"]


def _missing(death: str) -> str:
    """What an interpreter lacks whose worker did not begin, by how Python says it."""
    if "No module named 'flowbench'" in death:
        return "has no flowbench"
    if "No module named" in death and "flowbench.timing" in death:
        return f"has a flowbench that is too old to be compared: it has no {MODULE}"
    return f"does not answer: {death}"
