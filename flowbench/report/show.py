"""The table of a dataset as a reader sees it: what its columns are, and what stands above and below. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from flowbench.console import UNLIMITED
from flowbench.report.layout import (
    Column,
    Figure,
    aligned,
    duration,
    fitted,
    rich_table,
    significant,
    without_common,
)
from flowbench.results.published import published_shape

if TYPE_CHECKING:
    from flowbench.report.compare import DatasetTable, Line
    from flowbench.results.record import Environment, Row, Timing

NEARLY_AS_FAST = 1.5
"""A direction is coloured as fast if it costs at most this many times what the same run's faster one does."""


def show(tables: Sequence[DatasetTable], console: Console) -> None:
    """Print tables to fit a terminal; with every column and unwrapped where the console is no terminal."""
    if not console.is_terminal:
        console.width = UNLIMITED
    for index, table in enumerate(tables):
        if index:
            console.print()
        console.print(render(table, console.width))


def render(table: DatasetTable, width: int) -> RenderableType:
    """The table for a terminal of that many columns: heading, runs, references, published numbers, notes."""
    columns, common = without_common(_columns(table), len(table.lines))
    columns, left_out = fitted(columns, width)
    heading = f"{table.data}: {table.dim} columns, {table.n_test:,} test rows, nats in {table.space} space"
    notes = [f"[{number}] {source}" for number, source in enumerate(_sources(table), start=1)]
    notes += [f"* {note}" for note in table.notes]
    if left_out:
        notes.append(f"* left out at this width: {', '.join(left_out)}; a wider terminal, a pipe or --json has all")
    return Group(
        Text(heading, style="bold"),
        *([Text(f"all runs: {common}")] if common else []),
        rich_table(columns, _sections(table)),
        *(Text(note, style="dim") for note in notes),
    )


def _sections(table: DatasetTable) -> dict[int, str]:
    runs, references = len(table.lines), len(table.references)
    sections = {runs: ""} if references else {}
    return sections | ({runs + references: "published"} if table.published else {})


def _sources(table: DatasetTable) -> list[str]:
    return list(dict.fromkeys(entry.source for entry in table.published))


def _columns(table: DatasetTable) -> list[Column]:
    rows, sources = [line.row for line in table.lines], _sources(table)
    names = [line.model for line in table.lines] + [reference.model for reference in table.references]
    names += [f"{entry.model} [{sources.index(entry.source) + 1}]" for entry in table.published]
    batches = sorted({timing.batch for row in rows for timing in row.timings})
    columns = [
        Column("model", tuple(names), right=False),
        Column("recipe", tuple(row.recipe for row in rows), rank=17, folds=True, right=False),
        Column("seed", tuple(str(row.seed) for row in rows), rank=16, folds=True),
        Column("config", _config_cells(table.lines), rank=19, folds=True, right=False),
        Column("data", _data_cells(rows), rank=18, folds=True, right=False),
        _nats_column(table),
        Column("to best", _to_best_cells(table), rank=10),
        Column("bits/pixel", _bits_cells(table), rank=5),
        Column("nats below\ntruth", aligned([_truth(row) for row in rows]), rank=1),
        Column("train", tuple(duration(row.train_seconds) for row in rows), rank=11),
        Column("passes\nd / s", tuple(_passes(row) for row in rows), rank=2),
        *(_cost_column(each, rows, batch, batches) for batch in batches for each in ("density", "sample")),
        Column("device", tuple(_device(row.environment) for row in rows), rank=20, folds=True, right=False),
    ]
    return [_padded(column, len(names)) for column in columns if any(column.cells)]


def _padded(column: Column, length: int) -> Column:
    """Blank cells for references and published models, of which most columns know nothing."""
    cells = column.cells + ("",) * (length - len(column.cells))
    return replace(column, cells=cells)


def _config_cells(lines: Sequence[Line]) -> tuple[str, ...]:
    """The configuration's hash, where nothing else that is shown tells two runs apart."""
    hashes: dict[tuple[object, ...], set[str]] = {}
    for line in lines:
        row = line.row
        shown = (line.model, row.recipe, row.seed, row.data_version, row.data_fingerprint, _device(row.environment))
        hashes.setdefault(shown, set()).add(row.config_hash)
    needed = any(len(found) > 1 for found in hashes.values())
    return tuple(line.row.config_hash[:8] if needed else "" for line in lines)


def _data_cells(rows: Sequence[Row]) -> tuple[str, ...]:
    """Version and fingerprint, where runs differ in them."""
    cells = tuple(f"v{row.data_version} {row.data_fingerprint[:6]}" for row in rows)
    return cells if len({(row.data_version, row.data_fingerprint) for row in rows}) > 1 else ("",) * len(rows)


def _nats_column(table: DatasetTable) -> Column:
    rows, shape = [line.row for line in table.lines], published_shape(table.data)
    figures = [Figure(row.test_ll_nats, _twice(row.test_ll_stderr_nats)) for row in rows]
    figures += [Figure(entry.test_ll_nats, entry.two_stderr_nats) for entry in table.references]
    decimals = shape.decimals if shape else None
    figures += [Figure(entry.test_ll_nats, entry.two_stderr_nats, decimals) for entry in table.published]
    status = ["" if row.status == "ok" else row.status for row in rows] + [""] * (len(figures) - len(rows))
    cells = tuple(word or cell for word, cell in zip(status, aligned(figures), strict=True))
    styles = tuple(
        "red" if row.status != "ok" else "bold" if line.nats_below_best == 0 else ""
        for line, row in zip(table.lines, rows, strict=True)
    )
    return Column("test nats\n± 2 s.e.", cells, styles=styles)


def _to_best_cells(table: DatasetTable) -> tuple[str, ...]:
    """Nats above (+) or below (−) the best run; the best and its equals say so."""
    best = table.best_ll_nats
    differences = [None if line.nats_below_best is None else -line.nats_below_best for line in table.lines]
    others = [entry.test_ll_nats for entry in table.references] + [entry.test_ll_nats for entry in table.published]
    differences += [None if best is None else nats - best for nats in others]
    return tuple("" if nats is None else "best" if nats == 0 else f"{nats:+.2f}" for nats in differences)


def _bits_cells(table: DatasetTable) -> tuple[str, ...]:
    figures = [Figure(line.row.bits_per_pixel, _twice(line.row.bits_per_pixel_stderr)) for line in table.lines]
    figures += [Figure(None, None) for _ in table.references]
    return aligned([*figures, *(Figure(entry.bits_per_pixel, None, 2) for entry in table.published)])


def _truth(row: Row) -> Figure:
    return Figure(row.nats_below_truth, _twice(row.nats_below_truth_stderr))


def _twice(stderr: float | None) -> float | None:
    return None if stderr is None else 2 * stderr


def _passes(row: Row) -> str:
    return "" if row.density_passes is None else f"{row.density_passes} / {row.sampling_passes}"


def _cost_column(direction: str, rows: Sequence[Row], batch: int, batches: Sequence[int]) -> Column:
    """The largest batch stays longest, then the smallest; what lies between leaves early."""
    rank = 0 if batch == batches[-1] else 3 if batch == batches[0] else 9
    timings = [next((timing for timing in row.timings if timing.batch == batch), None) for row in rows]
    cells = tuple("" if timing is None else significant(_cost(timing, direction)) for timing in timings)
    styles = tuple("green" if timing is not None and _is_fast(timing, direction) else "" for timing in timings)
    return Column(f"{direction}\nµs/row\n@ {batch}", cells, rank, styles=styles)


def _cost(timing: Timing, direction: str) -> float:
    return timing.density_us_per_row if direction == "density" else timing.sampling_us_per_row


def _is_fast(timing: Timing, direction: str) -> bool:
    faster = min(timing.density_us_per_row, timing.sampling_us_per_row)
    return _cost(timing, direction) <= NEARLY_AS_FAST * faster


def _device(environment: Environment) -> str:
    name = environment.device_name or environment.device
    if not environment.device.startswith("cpu"):
        return name
    return f"{name} ({environment.threads} thread{'' if environment.threads == 1 else 's'})"
