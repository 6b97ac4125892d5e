"""One table for each set of test rows: its posteriors in order, each held against the best. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from flowbench.report.ranking.lines import paired as paired_rows
from flowbench.report.runs import Run, has_rows_of, test_lls
from flowbench.results.inference import Difference
from flowbench.results.record import configuration
from flowbench.results.variational import PosteriorRecord


@dataclass(frozen=True)
class Row:
    """A posterior in a table, its bound set against that of the first."""

    path: Path
    record: PosteriorRecord
    to_best: Difference | None = None


@dataclass(frozen=True)
class PosteriorTable:
    """All posteriors on one set of rows, the best bound on validation rows first."""

    data: str
    rows: tuple[Row, ...]


def tables(
    records: Mapping[Path, PosteriorRecord], data: str | None = None, flow: str | None = None
) -> list[PosteriorTable]:
    """One for each set of test rows, of this ``data`` (with or without ``-binarised``) and this flow."""
    chosen = {
        path: record
        for path, record in records.items()
        if data in (None, record.task.data, record.task.data.removesuffix("-binarised"))
        and flow in (None, record.task.flow)
    }
    newest = {_identity(record): path for path, record in sorted(chosen.items(), key=lambda item: item[1].started_at)}

    def subject(path: Path) -> tuple[str, str]:
        task = chosen[path].task
        return task.data, task.rows_sha256.get("test", "")

    groups = groupby(sorted(newest.values(), key=subject), key=subject)
    return [PosteriorTable(data, tuple(_rows([(path, chosen[path]) for path in group]))) for (data, _), group in groups]


def _identity(record: PosteriorRecord) -> tuple[Any, ...]:
    return record.task.flow, configuration(record), record.setup.seed, record.task.data, record.environment.device_name


def _rows(found: Sequence[tuple[Path, PosteriorRecord]]) -> Iterator[Row]:
    def rank(item: tuple[Path, PosteriorRecord]) -> tuple[bool, float]:
        record = item[1]
        value = record.bound.validation_bound_nats
        return record.status != "ok", -(value if value is not None else float("-inf"))

    first, *_ = ordered = sorted(found, key=rank)
    for path, record in ordered:
        row = Row(path, record)
        yield row if path == first[0] else replace(row, to_best=paired(row, Row(*first)))


def paired(one: Row, other: Row) -> Difference | None:
    """Of the first bound minus the second, row by row; None where a run is not well, or a file not there or damaged."""
    runs = [Run(row.path, row.record) for row in (one, other)]
    if {run.record.status for run in runs} != {"ok"} or not has_rows_of(one.record, other.record):
        return None
    rows = test_lls(runs)
    return None if rows is None else paired_rows(rows[:1], rows[1:])
