"""The row of ``flowbench time``: what a density, a sample and a training step cost. Never imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowbench.files import write_together
from flowbench.results.record import SCHEMA_VERSION, Environment, FileStem


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


Work = Literal["density", "sampling", "step"]
WORKS: tuple[Work, ...] = ("density", "sampling", "step")
"""What is timed: densities of the rows, as many samples, one step of training on them."""


class Cost(_Frozen):
    """One figure: median and quartiles in microseconds for a whole batch, and what it is held against.

    ``floor_us`` is the time that the floating-point operations alone would take at the machine's measured matrix rate:
    2 for each weight that a mask leaves and each row, 6 for a training step. ``ours_us`` is flowbench's own median for
    the same work, beside a peer's.
    """

    model: str
    work: Work
    batch: int
    us: FiniteFloat
    us_q1: FiniteFloat
    us_q3: FiniteFloat
    first_us: FiniteFloat
    runs: int
    passes: int | None = None
    floor_us: FiniteFloat | None = None
    ours_us: FiniteFloat | None = None
    peak_bytes: int | None = None


class Missing(_Frozen):
    """A figure that could not be had; ``reason`` begins with "skipped" or "failed" and a colon."""

    model: str
    work: Work
    batch: int
    reason: str


class Shape(_Frozen):
    """A timed flow: what it was built with, what it cost, and which figures could not be had."""

    flow: str
    dim: int
    options: dict[str, Any] = {}
    parameters: int
    costs: list[Cost]
    missing: list[Missing] = []

    @property
    def title(self) -> str:
        """The flow as a person names it."""
        hidden = "×".join(map(str, self.options.get("hidden", ())))
        size = f" {self.options['transforms']} × ({hidden})" if hidden else ""
        bare = ", without batch norm" if self.options.get("batch_norm") is False else ""
        return f"{self.flow}{size}, {self.dim} columns{bare}"


class Exponent(_Frozen):
    """How the cost of a row grows with the number of columns: the slope of its logarithm over that of D."""

    flow: str
    work: Literal["density", "sampling"]
    exponent: FiniteFloat
    dims: tuple[int, ...]
    us_per_row: tuple[FiniteFloat, ...]


class CostRow(_Frozen):
    """One run of ``flowbench time``; until ``finished``, what is known so far."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["time"] = "time"
    run: FileStem
    data: str
    matrix_gflops: FiniteFloat
    shapes: list[Shape] = []
    exponents: list[Exponent] = []
    environment: Environment
    started_at: str
    total_seconds: FiniteFloat
    finished: bool = True


def write(row: CostRow, folder: Path) -> Path:
    """Write ``<folder>/<row.run>.json``, whole or not at all, and return its path.

    One that is not finished is ``<row.run>.unfinished.json``, so that it takes no finished one's place.
    """
    finished, unfinished = (folder / f"{row.run}{ending}.json" for ending in ("", ".unfinished"))
    path = finished if row.finished else unfinished
    write_together({path: (json.dumps(row.model_dump(mode="json"), indent=2, allow_nan=False) + "\n").encode()})
    if row.finished:
        unfinished.unlink(missing_ok=True)
    return path


def tables(row: CostRow) -> RenderableType:
    """The row as a person reads it: one table a flow, one of exponents."""
    where = f"{row.environment.device_name} ({row.environment.threads} threads)"
    state = "" if row.finished else "unfinished · "
    head = Text(f"{state}{where} · matrix products {row.matrix_gflops:,.0f} GFLOP/s · median (quartiles)")
    parts: list[RenderableType] = [head]
    parts += [_shape_table(shape) for shape in row.shapes]
    parts += [_exponent_table(row.exponents)] if row.exponents else []
    return Group(*parts)


def _shape_table(shape: Shape) -> Table:
    table = Table(title=shape.title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("batch", justify="right")
    table.add_column("")
    for heading in ("density\nµs/row", "sampling\nµs/row", "training step\nms"):
        table.add_column(heading, justify="right")
    found = {(cost.batch, cost.model, cost.work): cost for cost in shape.costs}
    missing = {(gap.batch, gap.model, gap.work): gap.reason.partition(":")[0] for gap in shape.missing}
    lines = dict.fromkeys((batch, model) for batch, model, _ in (*found, *missing))
    for batch, model in sorted(lines, key=lambda line: line[0]):
        costs = [found.get((batch, model, work)) for work in WORKS]
        cells = [_cell(found.get((batch, model, work))) or missing.get((batch, model, work), "") for work in WORKS]
        table.add_row(f"{batch:,}", model, *(Text(cell) for cell in cells))
        if any(cost and cost.floor_us for cost in costs):
            table.add_row(
                "", Text("  × the arithmetic", style="dim"), *(Text(_over_floor(c), style="dim") for c in costs)
            )
        if any(cost and cost.peak_bytes is not None for cost in costs):
            table.add_row("", Text("  memory", style="dim"), *(Text(_memory(c), style="dim") for c in costs))
    if shape.missing:
        gaps = (f"{gap.model} {gap.work}, batch {gap.batch:,}: {gap.reason}" for gap in shape.missing)
        table.caption, table.caption_justify = Text("\n".join(gaps)), "left"
    return table


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return ""
    scale = 1e-3 if cost.work == "step" else 1 / cost.batch
    once = " once" if cost.runs == 1 else f" ({cost.us_q1 * scale:.3g}–{cost.us_q3 * scale:.3g})"
    ratio = f"  {cost.us / cost.ours_us:.2f}×" if cost.ours_us else ""
    return f"{cost.us * scale:.3g}{once}{ratio}"


def _over_floor(cost: Cost | None) -> str:
    return f"{cost.us / cost.floor_us:.2f}×" if cost and cost.floor_us else ""


def _memory(cost: Cost | None) -> str:
    return f"{cost.peak_bytes / 1e6:,.1f} MB" if cost and cost.peak_bytes is not None else ""


def _exponent_table(exponents: list[Exponent]) -> Table:
    table = Table(title="µs/row as the columns grow, widths fixed", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for dim in exponents[0].dims:
        table.add_column(f"D={dim}", justify="right")
    table.add_column("exponent", justify="right")
    for found in exponents:
        table.add_row(f"{found.flow} {found.work}", *(f"{us:.3g}" for us in found.us_per_row), f"{found.exponent:.2f}")
    return table
