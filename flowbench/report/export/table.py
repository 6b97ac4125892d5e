"""Runs as a table of typed columns. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowbench.errors import NothingToCompareError, UsageError
from flowbench.files import utf8
from flowbench.report.export.columns import CHECKS, CONFIG, CORE, PATH, TIMINGS, VERSIONS, Column, Type, value_of
from flowbench.results.record import RunRecord

MOST_CELLS = 20_000_000
"""Of a table: two thousand columns of ten thousand runs."""

_NOT_FINITE = "inf", "-inf", "nan"
"""As settings have them, which are numbers."""


@dataclass(frozen=True)
class Filled:
    """A column and its values, one a run: None, or what its type has. A ``setting`` has a type of its own by now."""

    column: Column
    values: Sequence[Any]


def table(runs: Mapping[Path, RunRecord], folder: Path) -> list[Filled]:
    """The runs, each a row, in the columns of all runs and those that one of them has.

    Raises:
        NothingToCompareError: there are none.
        UsageError: they have more cells than a table can.
    """
    if not runs:
        raise NothingToCompareError("no results were found", "run `flowbench train maf` first, or name a folder")
    records = list(runs.values())
    more: dict[Column, dict[int, Any]] = {}
    for row, record in enumerate(records):
        for column, value in _of_keys(record):
            more.setdefault(column, {})[row] = value
    if (cells := len(records) * (len(CORE) + len(more))) > MOST_CELLS:
        raise UsageError(f"{cells:,} cells are more than a table can have", "choose runs with --data and --flow")
    paths = [utf8(path.relative_to(folder)) for path in runs]
    core = [_filled(each, paths if each is PATH else [value_of(record, each) for record in records]) for each in CORE]
    return core + [_filled(each, [more[each].get(row) for row in range(len(records))]) for each in _sorted(more)]


def _of_keys(record: RunRecord) -> Iterator[tuple[Column, Any]]:
    """The columns of what is in the record by a key, and their values."""
    for timing in record.timings:
        yield from ((each.of(timing.batch), getattr(timing, each.source.rpartition(".")[2])) for each in TIMINGS)
    for name, check in record.checks.items():
        yield from ((each.of(name), getattr(check, each.source.rpartition(".")[2])) for each in CHECKS)
    yield from ((VERSIONS.of(name), version) for name, version in record.environment.versions.items())
    yield from ((CONFIG.of(name), value) for name, value in record.setup.config.items())


def _sorted(columns: Iterable[Column]) -> list[Column]:
    """Times by batch size, then checks, versions and settings by name."""
    rooms = "timings", "checks", "environment", "setup"

    def place(column: Column) -> tuple[int, int, str]:
        batch = column.name.rpartition("_at_")[2] if column.source.startswith("timings.") else ""
        return rooms.index(column.source.partition(".")[0]), int(batch or 0), "" if batch else column.name

    return sorted(columns, key=place)


def _filled(column: Column, values: Sequence[Any]) -> Filled:
    kind: Type = _type(values) if column.type == "setting" else column.type
    if kind == "integer" and not all(-(2**63) <= value < 2**63 for value in values if value is not None):
        kind, values = "text", [None if value is None else str(value) for value in values]
    elif kind == "json":
        # a setting may be empty, and that says something
        values = [value if value or column.type == "setting" else None for value in values]
        values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    elif kind == "time":
        values = [_time(value) for value in values]
    elif kind == "number":
        values = [None if value is None else float(value) for value in values]
    return Filled(replace(column, type=kind), values)


def _type(values: Sequence[Any]) -> Type:
    """The narrowest type that all values of a setting have."""
    there = [value for value in values if value is not None]
    numbers = [value for value in there if isinstance(value, int | float) and not isinstance(value, bool)]
    if there and all(isinstance(value, bool) for value in there):
        return "boolean"
    if numbers and all(isinstance(value, int) for value in there) and len(numbers) == len(there):
        return "integer"
    if numbers and len(numbers) + sum(value in _NOT_FINITE for value in there if isinstance(value, str)) == len(there):
        return "number" if all(abs(value) < 1e300 for value in numbers) else "json"
    return "text" if all(isinstance(value, str) for value in there) else "json"


def _time(text: str) -> datetime | None:
    """As ISO 8601 has it, in UTC where it does not say; None where it is no time."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
