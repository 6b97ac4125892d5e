"""What reports on posteriors and on fits to targets have in common: times, ranks, and paired differences. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.table import Table

from flowbench.report.layout import Column, Figure, significant
from flowbench.report.runs import has_rows_of
from flowbench.results.documents import UnreadableRecordError
from flowbench.results.inference import Difference, difference
from flowbench.results.record import Estimate, Trained, configuration
from flowbench.results.store import read_test_lls
from flowbench.results.variational import PosteriorTiming

BATCH = 1000
"""Of the times that are shown."""

T = TypeVar("T", bound=Trained)


@dataclass(frozen=True)
class Row(Generic[T]):
    """One in a table, its bound set against that of the first."""

    path: Path
    record: T
    to_best: Difference | None


def by_rows(
    records: Mapping[Path, T], validated: Callable[[T], float | None]
) -> Iterator[tuple[str, tuple[Row[T], ...]]]:
    """The newest of each configuration, those on one set of test rows together: its data, the best one first."""
    newest = {_identity(record): path for path, record in sorted(records.items(), key=lambda item: item[1].started_at)}

    def subject(path: Path) -> tuple[str, str]:
        task = records[path].task
        return task.data, task.rows_sha256.get("test", "")

    for (data, _), group in groupby(sorted(newest.values(), key=subject), key=subject):
        yield data, tuple(_ranked([(path, records[path]) for path in group], validated))


def _identity(record: Trained) -> tuple[Any, ...]:
    return record.task.flow, configuration(record), record.setup.seed, record.task.data, record.environment.device_name


def _ranked(found: Sequence[tuple[Path, T]], validated: Callable[[T], float | None]) -> Iterator[Row[T]]:
    def rank(item: tuple[Path, T]) -> tuple[bool, float]:
        value = validated(item[1])
        return item[1].status != "ok", -(value if value is not None else float("-inf"))

    first, *_ = ordered = sorted(found, key=rank)
    for path, record in ordered:
        yield Row(path, record, None if path == first[0] else _paired((path, record), first))


def _paired(one: tuple[Path, Trained], best: tuple[Path, Trained]) -> Difference | None:
    """The difference of bounds, row by row, where both files are there and whole."""
    if "ok" not in (one[1].status, best[1].status) or not has_rows_of(one[1], best[1]):
        return None
    try:
        rows = [read_test_lls(record, path.parent) for path, record in (one, best)]
    except UnreadableRecordError:
        return None
    if rows[0] is None or rows[1] is None or rows[0].shape != rows[1].shape:
        return None
    return difference([rows[0]], [rows[1]]).as_measured


def times(costs: Sequence[PosteriorTiming], of: str) -> Table:
    """Both directions ``of`` an approximation, by each way, at each batch size."""
    table = Table(title=f"{of}, microseconds per row, median (quartiles)", title_justify="left")
    table.add_column("batch", justify="right")
    ways = list(dict.fromkeys((cost.direction, cost.way) for cost in costs))
    names = {"sample": "a sample with its density", "density": "the density of a point"}
    for direction, way in ways:
        table.add_column(
            f"{names[direction]}\nby {way}" if way != "one pass" else f"{names[direction]}\none pass", justify="right"
        )
    for batch in dict.fromkeys(cost.batch for cost in costs):
        found = {(cost.direction, cost.way): cost for cost in costs if cost.batch == batch}
        table.add_row(f"{batch:,}", *(_quartiles(found[key]) if key in found else "" for key in ways))
    return table


def _quartiles(cost: PosteriorTiming) -> str:
    return f"{cost.us_per_row:.3g} ({cost.us_per_row_q1:.3g}–{cost.us_per_row_q3:.3g})"


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """± 2 standard errors."""
    if estimate is None or estimate.mean is None:
        return "not finite"
    return f"{estimate.mean:.{digits}f}" + (
        f" ± {2 * estimate.stderr:.{digits}f}" if estimate.stderr is not None else ""
    )


def cells(header: str, cells: Sequence[str], more: int, rank: int, folds: bool = False) -> Column:
    """A column of words, with so ``more`` empty cells below."""
    return Column(header, (*cells, *[""] * more), rank, folds=folds, right=not folds)


def figure(estimate: Estimate | None) -> Figure:
    """± 2 standard errors."""
    if estimate is None or estimate.mean is None:
        return Figure(None, None)
    return Figure(estimate.mean, None if estimate.stderr is None else 2 * estimate.stderr)


def difference_figure(found: Difference | None) -> Figure:
    """± 2 standard errors; blank where nothing is paired."""
    return Figure(found.mean, 2 * found.stderr) if found else Figure(None, None)


def cost(costs: Sequence[PosteriorTiming], direction: str) -> str:
    """By the faster way, at the batch that is shown."""
    found = [cost.us_per_row for cost in costs if cost.direction == direction and cost.batch == BATCH]
    return significant(min(found, default=None))


def row_document(row: Row[T]) -> dict[str, Any]:
    """As strict JSON has it: its whole record."""
    return {
        "path": str(row.path),
        "to_best_nats": row.to_best and {"mean": row.to_best.mean, "stderr": row.to_best.stderr},
        "record": row.record.model_dump(mode="json"),
    }
