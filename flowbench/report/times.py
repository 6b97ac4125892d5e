"""What ``flowbench time`` says at its end: one table a flow, one of exponents. Never imports torch."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural
from flowbench.report.layout import plain
from flowbench.results.costs import WORKS, Cost, Exponent, Shape, TimeRecord


def tables(record: TimeRecord) -> RenderableType:
    """The record as a person reads it."""
    where = f"{record.environment.device_name} ({plural(record.environment.threads, 'thread')})"
    state = "" if record.finished else "unfinished · "
    parts: list[RenderableType] = [
        plain(f"{state}{where} · large square products {record.matrix_gflops:,.0f} GFLOP/s · median (quartiles)")
    ]
    parts += [_shape_table(shape) for shape in record.shapes]
    parts += [_exponent_table(record.exponents)] if record.exponents else []
    if any(cost.arithmetic_us for shape in record.shapes for cost in shape.costs):
        parts += [plain("× products: against the same arithmetic at the rate of large square products", "dim")]
    return Group(*parts)


def _shape_table(shape: Shape) -> Table:
    table = Table(title=plain(shape.title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("batch", justify="right")
    table.add_column("")
    for heading in ("density\nµs/row", "sampling\nµs/row", "training step\nms"):
        table.add_column(heading, justify="right", overflow="fold")  # a figure is wrapped, never cut
    found = {(cost.batch, cost.model, cost.work): cost for cost in shape.costs}
    missing = {(gap.batch, gap.model, gap.work): gap.reason.partition(":")[0] for gap in shape.missing}
    lines = dict.fromkeys((batch, model) for batch, model, _ in (*found, *missing))
    for batch, model in sorted(lines, key=lambda line: line[0]):
        costs = [found.get((batch, model, work)) for work in WORKS]
        cells = [_cell(cost) or missing.get((batch, model, work), "") for cost, work in zip(costs, WORKS, strict=True)]
        table.add_row(f"{batch:,}", plain(model), *map(plain, cells))
        for name, cell in (("× products", _to_arithmetic), ("memory", _memory), ("passes", _passes)):
            texts = [plain(cell(cost), "dim") for cost in costs]
            if any(texts):
                table.add_row("", plain(f"  {name}", "dim"), *texts)
    if shape.missing:
        gaps = (f"{gap.model} {gap.work}, batch {gap.batch:,}: {gap.reason}" for gap in shape.missing)
        table.caption, table.caption_justify = plain("\n".join(gaps)), "left"
    return table


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return ""
    scale = 1e-3 if cost.work == "step" else 1 / cost.batch
    once = " once" if cost.runs == 1 else f" ({cost.us_q1 * scale:.3g}–{cost.us_q3 * scale:.3g})"
    ratio = f"  {cost.us / cost.ours_us:.2f}×" if cost.ours_us else ""
    return f"{cost.us * scale:.3g}{once}{ratio}"


def _to_arithmetic(cost: Cost | None) -> str:
    ratio = cost.us / cost.arithmetic_us if cost and cost.arithmetic_us else 0
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.2f}×" if ratio else ""


def _memory(cost: Cost | None) -> str:
    return f"{cost.peak_bytes / 1e6:,.1f} MB" if cost and cost.peak_bytes is not None else ""


def _passes(cost: Cost | None) -> str:
    return f"{cost.passes_taken:.3g} a transform" if cost and cost.passes_taken is not None else ""


def _exponent_table(exponents: list[Exponent]) -> Table:
    table = Table(title="µs/row as the columns grow, widths fixed", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for dim in exponents[0].dims:
        table.add_column(f"D={dim}", justify="right")
    table.add_column("exponent", justify="right")
    for found in exponents:
        cells = (f"{us:.3g}" for us in found.us_per_row)
        table.add_row(plain(f"{found.flow} {found.work}"), *cells, f"{found.exponent:.2f}")
    return table
