"""One table for each set of test rows, or each target: its runs in order, each held against the best. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from flowbench.report.ranking.lines import paired as paired_rows
from flowbench.report.runs import Run, has_rows_of, is_of, test_lls
from flowbench.results.inference import Difference
from flowbench.results.record import Trained, configuration
from flowbench.results.variational import PosteriorRecord, TargetRecord

T = TypeVar("T", bound=Trained, covariant=True)
S = TypeVar("S", bound=Trained)


@dataclass(frozen=True)
class Row(Generic[T]):
    """A run in a table, its bound set against that of the first."""

    path: Path
    record: T
    to_best: Difference | None = None


@dataclass(frozen=True)
class BoundTable(Generic[T]):
    """All runs that were measured on the same rows, or by the same noise, the best bound on validation rows first."""

    data: str
    rows: tuple[Row[T], ...]

    @property
    def records(self) -> list[T]:
        """Those of its rows."""
        return [row.record for row in self.rows]

    @property
    def best(self) -> T | None:
        """The first that ended well."""
        return next((record for record in self.records if record.status == "ok"), None)


PosteriorTable = BoundTable[PosteriorRecord]
TargetTable = BoundTable[TargetRecord]


def posteriors(
    records: Mapping[Path, PosteriorRecord], data: str | None = None, flow: str | None = None
) -> list[PosteriorTable]:
    """One for each set of test rows, of this ``data`` and this flow."""
    return _tables(records, data, flow, lambda record: record.bound.validation_bound_nats)


def fits(records: Mapping[Path, TargetRecord], data: str | None = None, flow: str | None = None) -> list[TargetTable]:
    """One for each target, of this ``data`` and this flow."""
    return _tables(records, data, flow, lambda record: record.fit.validation_bound_nats)


def _tables(
    records: Mapping[Path, S],
    data: str | None,
    flow: str | None,
    validated: Callable[[S], float | None],
) -> list[BoundTable[S]]:
    chosen = {path: record for path, record in records.items() if is_of(record, data, flow)}
    newest = {_identity(record): path for path, record in sorted(chosen.items(), key=lambda item: item[1].started_at)}

    def subject(path: Path) -> tuple[str, str]:
        return _subject(chosen[path])

    groups = groupby(sorted(newest.values(), key=subject), key=subject)
    return [
        BoundTable(name, tuple(_ranked([Row(path, chosen[path]) for path in group], validated)))
        for (name, _), group in groups
    ]


def _subject(record: Trained) -> tuple[str, str]:
    """The data, and its test rows: other ones are those of another version."""
    return record.task.data, record.task.rows_sha256.get("test", "")


def _identity(record: Trained) -> tuple[Any, ...]:
    where = record.environment.device_name
    return record.task.flow, configuration(record), record.setup.seed, _subject(record), where


def _ranked(rows: Sequence[Row[S]], validated: Callable[[S], float | None]) -> Iterator[Row[S]]:
    def rank(row: Row[S]) -> tuple[bool, float]:
        value = validated(row.record)
        return row.record.status != "ok", -(value if value is not None else float("-inf"))

    first, *others = sorted(rows, key=rank)
    yield first
    yield from (replace(row, to_best=paired(row, first)) for row in others)


def paired(one: Row[S], other: Row[S]) -> Difference | None:
    """Of the first bound minus the second, row by row; None where a run is not well, or a file not there or damaged."""
    runs = [Run(row.path, row.record) for row in (one, other)]
    if {run.record.status for run in runs} != {"ok"} or not has_rows_of(one.record, other.record):
        return None
    rows = test_lls(runs)
    return None if rows is None else paired_rows(rows[:1], rows[1:])
