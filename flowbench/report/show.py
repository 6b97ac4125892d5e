"""The table of a dataset as a reader sees it: what its columns are, and what stands above and below. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType

from flowbench.console import UNLIMITED, plural, printable
from flowbench.report.layout import (
    LAST,
    Column,
    Figure,
    aligned,
    decimals,
    duration,
    fitted,
    plain,
    rich_table,
    significant,
    without_common,
)
from flowbench.results.published import published_shape

if TYPE_CHECKING:
    from flowbench.report.compare import DatasetTable
    from flowbench.results.record import Environment, Estimate, RunRecord, Timing

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
    size = f"{plural(table.dim, 'column')}, {plural(table.n_test, 'test row')}"
    heading = f"{table.data}: {size}, nats in {table.space} space"
    notes = [f"[{number}] {source}" for number, source in enumerate(_sources(table), start=1)]
    notes += [f"* {note}" for note in table.notes]
    if left_out:
        notes.append(f"* left out at this width: {', '.join(left_out)}; a wider terminal, a pipe or --json has all")
    return Group(
        plain(heading, "bold"),
        *([plain(f"all runs: {common}")] if common else []),
        rich_table(columns, _sections(table)),
        *(plain(note, "dim") for note in notes),
    )


def _sections(table: DatasetTable) -> dict[int, str]:
    runs, references = len(table.lines), len(table.references)
    sections = {runs: ""} if references else {}
    return sections | ({runs + references: "published"} if table.published else {})


def _sources(table: DatasetTable) -> list[str]:
    return list(dict.fromkeys(entry.source for entry in table.published))


def _columns(table: DatasetTable) -> list[Column]:
    records, sources = [line.record for line in table.lines], _sources(table)
    names = [record.model for record in records] + [reference.model for reference in table.references]
    names += [f"{entry.model} [{sources.index(entry.source) + 1}]" for entry in table.published]
    batches = sorted({timing.batch for record in records for timing in record.timings})
    found = [record.likelihoods for record in records]
    columns = [
        Column("model", tuple(names), right=False),
        Column("recipe", tuple(record.setup.recipe for record in records), rank=18, folds=True, right=False),
        Column("seed", tuple(str(record.setup.seed) for record in records), rank=17, folds=True),
        Column("config", _config_cells(records), rank=20, folds=True, right=False),
        Column("data", _data_cells(records), rank=19, folds=True, right=False),
        _nats_column(table),
        Column("± 2 s.e. by\nphotograph", aligned([_by_group(each.test_ll_nats) for each in found]), rank=7),
        _to_best_column(table),
        Column("bits/pixel", _bits_cells(table), rank=6),
        Column("nats below\ntruth", aligned([_figure(each.nats_below_truth) for each in found]), rank=2),
        Column("train", tuple(duration(record.training.train_seconds) for record in records), rank=12),
        Column("passes\nd / s", tuple(map(_passes, records)), rank=3),
        *(_cost_column(each, records, batch, batches) for batch in batches for each in ("density", "sample")),
        Column("device", tuple(_device(record.environment) for record in records), rank=21, folds=True, right=False),
    ]
    return [_padded(column, len(names)) for column in columns if any(map(str.strip, column.cells))]


def _padded(column: Column, length: int) -> Column:
    """The cells as a terminal may have them, blank for references and published models that know nothing of them."""
    cells = *map(printable, column.cells), *[""] * (length - len(column.cells))
    return replace(column, cells=cells)


def _config_cells(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The configuration's hash, where nothing else that is shown tells two runs apart."""
    hashes: dict[tuple[object, ...], set[str]] = {}
    for record in records:
        task, setup = record.task, record.setup
        data = task.data_version, task.data_fingerprint
        shown = (record.model, setup.recipe, setup.seed, *data, _device(record.environment))
        hashes.setdefault(shown, set()).add(setup.config_hash)
    needed = any(len(found) > 1 for found in hashes.values())
    return tuple(record.setup.config_hash[:8] if needed else "" for record in records)


def _data_cells(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Version and fingerprint, where runs differ in them."""
    seen = [(record.task.data_version, record.task.data_fingerprint) for record in records]
    several = len(set(seen)) > 1
    return tuple(f"v{version} {fingerprint[:6]}" if several else "" for version, fingerprint in seen)


def _nats_column(table: DatasetTable) -> Column:
    records, shape = [line.record for line in table.lines], published_shape(table.data)
    figures = [_figure(record.likelihoods.test_ll_nats) for record in records]
    figures += [_figure(reference.test_ll_nats) for reference in table.references]
    places = shape.decimals if shape else None
    figures += [Figure(entry.test_ll_nats, entry.two_stderr_nats, places) for entry in table.published]
    status = ["" if record.status == "ok" else record.status for record in records]
    status += [""] * (len(figures) - len(records))
    cells = tuple(word or cell for word, cell in zip(status, aligned(figures), strict=True))
    styles = tuple(
        "red"
        if line.record.status != "ok"
        else "bold"
        if line.nats_below_best and not line.nats_below_best.mean
        else ""
        for line in table.lines
    )
    return Column("test nats\n± 2 s.e.", cells, styles=styles)


def _to_best_column(table: DatasetTable) -> Column:
    """Nats above (+) or below (−) the best run, with the error of the difference; the best and its equals say so."""
    best = table.best_ll_nats
    figures = [_above(line.nats_below_best) for line in table.lines]
    others = [reference.test_ll_nats.mean for reference in table.references]
    others += [entry.test_ll_nats for entry in table.published]
    figures += [Figure(None if best is None or nats is None else nats - best, None, 2) for nats in others]
    cells = aligned([Figure(None, None) if figure.value == 0 else figure for figure in figures], sign="+")
    words = tuple("best" if figure.value == 0 else cell for figure, cell in zip(figures, cells, strict=True))
    return Column("to best\n± 2 s.e." if any(figure.error for figure in figures) else "to best", words, rank=5)


def _above(below: Estimate | None) -> Figure:
    figure = _figure(below)
    return replace(
        figure,
        value=None if figure.value is None else -figure.value,
        decimals=decimals(figure.error) if figure.error else 2,
    )


def _bits_cells(table: DatasetTable) -> tuple[str, ...]:
    figures = [_figure(line.record.likelihoods.bits_per_pixel) for line in table.lines]
    figures += [Figure(None, None) for _ in table.references]
    return aligned([*figures, *(Figure(entry.bits_per_pixel, None, 2) for entry in table.published)])


def _figure(estimate: Estimate | None) -> Figure:
    if estimate is None:
        return Figure(None, None)
    return Figure(estimate.mean, None if estimate.stderr is None else 2 * estimate.stderr)


def _by_group(estimate: Estimate | None) -> Figure:
    error = 2 * estimate.stderr_by_group if estimate and estimate.stderr_by_group else None
    return Figure(error, None, decimals(error) if error else None)


def _passes(record: RunRecord) -> str:
    task = record.task
    return "" if task.density_passes is None else f"{task.density_passes} / {task.sampling_passes}"


def _cost_column(direction: str, records: Sequence[RunRecord], batch: int, batches: Sequence[int]) -> Column:
    """The largest batch stays longest, then the smallest; what lies between leaves early."""
    rank = LAST if batch == batches[-1] else 4 if batch == batches[0] else 10
    timings = [next((timing for timing in record.timings if timing.batch == batch), None) for record in records]
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
    return f"{name} ({plural(environment.threads, 'thread')})"
