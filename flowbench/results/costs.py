"""The records of ``flowbench time``: what a density, a sample and a training step cost. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, FiniteFloat

from flowbench.files import write_together
from flowbench.results.documents import document, known, parsed
from flowbench.results.fields import Amount, Count, Name, Positive, Settings
from flowbench.results.record import SCHEMA_VERSION, Environment, Part, Record, model_name
from flowbench.results.store import strict_json

Work = Literal["density", "sampling", "step"]
"""What is timed: densities of the rows, as many samples, one step of training on them."""

WORKS: tuple[Work, ...] = ("density", "sampling", "step")

InverseName = Literal["passes", "jacobi"]
"""Ways beside substitution to invert a masked autoregressive transform: the textbook's D passes, and Jacobi's."""

PassName = Literal["engine", "written"]
"""How a pass of theirs is taken: by the engine, as flowbench's own densities are, or as its equations are written."""

INVERSES: tuple[InverseName, ...] = ("passes", "jacobi")


class Cost(Part):
    """One figure: median and quartiles in microseconds for a whole batch, and what it is held against.

    ``arithmetic_us`` is the time that the floating-point operations take at the rate which the machine reaches in
    products of large square matrices: 2 operations for each weight that a mask leaves and each row, 6 for a training
    step. It is no lower bound, since a kernel that is faster than those products can undercut it (the first schema
    called it a floor). ``ours_us`` is flowbench's own median for the same work, beside a peer's. ``one_pass`` is how
    the passes of another inverse were taken, the faster way here; where it is not said, as written.
    """

    model: Name
    work: Work
    batch: Count
    us: Positive
    us_q1: Amount
    us_q3: Amount
    first_us: Amount
    runs: Count
    passes: Count | None = None
    arithmetic_us: Amount | None = Field(default=None, validation_alias=AliasChoices("arithmetic_us", "floor_us"))
    ours_us: Positive | None = None
    inverse: InverseName | None = None
    passes_taken: Amount | None = None
    one_pass: PassName | None = None
    tolerance: Amount | None = None
    peak_bytes: Count | None = None


class Missing(Part):
    """A figure that could not be had; ``reason`` begins with "skipped" or "failed" and a colon."""

    model: Name
    work: Work
    batch: Count
    reason: str


class Shape(Part):
    """A timed flow: what it was built with, what it cost, and which figures could not be had."""

    flow: Name
    dim: Count
    options: Settings
    parameters: Count
    costs: list[Cost]
    missing: list[Missing] = Field(default_factory=list)

    @property
    def title(self) -> str:
        """The flow as a person names it."""
        bare = ", without batch norm" if self.options.get("batch_norm") is False else ""
        return f"{model_name(self.flow, self.options)}, {self.dim} columns{bare}"


class Exponent(Part):
    """How the cost of a row grows with the number of columns: the slope of its logarithm over that of D."""

    flow: Name
    work: Literal["density", "sampling"]
    exponent: FiniteFloat
    dims: tuple[Count, ...]
    us_per_row: tuple[Positive, ...]


class TimeRecord(Record):
    """The record of one ``flowbench time``; until ``finished``, what is known so far."""

    kind: Literal["time"] = "time"
    data: Name
    matrix_gflops: Positive
    shapes: list[Shape] = Field(default_factory=list)
    exponents: list[Exponent] = Field(default_factory=list)
    finished: bool = True


class Side(Part):
    """One of two flowbenches that were compared: its interpreter, where it was imported from, and its versions."""

    python: str
    package: str
    environment: Environment


class Pair(Part):
    """What a work took on both sides, in microseconds for a batch: the mean of the faster half of many turns.

    Both sides' turns alternated, in two fresh processes.
    """

    baseline_us: Positive
    new_us: Positive

    @property
    def ratio(self) -> float:
        """New to baseline: above 1 is slower."""
        return self.new_us / self.baseline_us


class ComparedTime(Part):
    """A work of a flow in pairs; ``again`` are independent ones, taken where it looked slower in the first.

    ``failure`` says which side failed and why; what was measured before it stays.
    """

    title: str
    work: Work
    batch: Count
    pairs: list[Pair] = Field(default_factory=list)
    again: list[Pair] = Field(default_factory=list)
    failure: str | None = None


class ComparedMemory(Part):
    """The memory of one run of a work, or of a whole run of training, on both sides; counted, so once is enough."""

    title: str
    work: Work | Literal["training"]
    batch: Count | None
    baseline_bytes: Count | None = None
    new_bytes: Count | None = None
    failure: str | None = None


class CostComparison(Record):
    """The record of ``flowbench time --against``; its ``environment`` is the new side's."""

    kind: Literal["cost-comparison"] = "cost-comparison"
    data: Name
    settings: dict[str, Settings]
    baseline: Side
    new: Side
    times: list[ComparedTime] = Field(default_factory=list)
    memory: list[ComparedMemory] = Field(default_factory=list)
    finished: bool = True


def write(record: TimeRecord | CostComparison, folder: Path) -> Path:
    """Write ``<folder>/<record.run>.json``, whole or not at all, and return its path.

    One that is not finished is ``<record.run>.unfinished.json``, so that it takes no finished one's place.
    """
    finished, unfinished = (folder / f"{record.run}{ending}.json" for ending in ("", ".unfinished"))
    path = finished if record.finished else unfinished
    write_together({path: strict_json(record)})
    if record.finished:
        unfinished.unlink(missing_ok=True)
    return path


def read(path: Path) -> TimeRecord:
    """The record of times in a file.

    Raises:
        UnreadableRecordError: the file is damaged, of a newer schema, or no record of times.
    """
    return _parsed(path, document(path))


def _parsed(path: Path, found: dict[str, Any]) -> TimeRecord:
    return parsed(path, found, TimeRecord, lambda old: old | {"schema_version": SCHEMA_VERSION})


def into(times: list[TimeRecord]) -> Callable[[Path, dict[str, Any]], None]:
    """What ``store.read_all`` is to do with records of other kinds: put those of times into the list."""

    def keep(path: Path, found: dict[str, Any]) -> None:
        if found.get("kind") == "time":
            times.append(_parsed(path, known(path, found)))

    return keep
