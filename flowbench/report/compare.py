"""Runs set beside each other: one table a dataset, with the published numbers where they hold. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowbench.errors import NothingToCompareError
from flowbench.report.show import render, show
from flowbench.results.published import Published, published, published_shape
from flowbench.results.record import Row

__all__ = ["DatasetTable", "Line", "Reference", "document", "render", "show", "tables"]

DOCUMENT_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Line:
    """One run in its table. ``row`` has no figures unless the run ended ``ok``: others cannot be trusted.

    ``nats_below_best`` is 0 for the best run on the same data and its equals; None where the run has no likelihood.
    """

    model: str
    row: Row
    nats_below_best: float | None


@dataclass(frozen=True)
class Reference:
    """What runs are held against that is no run: the true density, the fitted Gaussian. Test nats, mean and 2 s.e."""

    model: str
    test_ll_nats: float
    two_stderr_nats: float | None


@dataclass(frozen=True)
class DatasetTable:
    """All runs on one dataset, best first; published numbers only where the data is the published data.

    ``best_ll_nats`` is None where the runs saw different data and so have no common best. ``notes`` are for the reader.
    """

    data: str
    dim: int
    n_test: int
    space: str
    partial: bool
    best_ll_nats: float | None
    lines: tuple[Line, ...]
    references: tuple[Reference, ...]
    published: tuple[Published, ...]
    notes: tuple[str, ...]


def tables(rows: Iterable[Row]) -> list[DatasetTable]:
    """One table a dataset, in the order of their names. Partial data is a dataset of its own.

    Raises NothingToCompareError where there is no row.
    """
    by_data: dict[str, list[Row]] = {}
    for row in rows:
        by_data.setdefault(row.data, []).append(_trusted(row))
    if not by_data:
        raise NothingToCompareError("no results were found", "run `flowbench train maf` first, or name a folder: --out")
    return [_table(data, found) for data, found in sorted(by_data.items())]


def document(found: Sequence[DatasetTable]) -> dict[str, Any]:
    """The tables as strict JSON has them: every run with all of its row's fields, units in the fields' names."""
    return {"schema_version": DOCUMENT_SCHEMA_VERSION, "tables": [_table_document(table) for table in found]}


def model_label(row: Row) -> str:
    """The flow and its size: ``maf 5 × (2×100)`` has 5 transforms with 2 hidden layers of 100 units each."""
    transforms, hidden = row.config.get("transforms"), row.config.get("hidden")
    if not transforms or not isinstance(hidden, list):
        return row.flow
    equal = len(set(hidden)) == 1
    size = f"{len(hidden)}×{hidden[0]}" if equal else "-".join(map(str, hidden)) or "linear"
    return f"{row.flow} {transforms} × ({size})"


FIGURES = {name for name, field in Row.model_fields.items() if field.default is None} - {"error"}


def _trusted(row: Row) -> Row:
    """The row, without its figures if the run did not end well."""
    return row if row.status == "ok" else row.model_copy(update=dict.fromkeys(FIGURES) | {"timings": []})


def _same_data(row: Row) -> tuple[int, str]:
    """Likelihoods are comparable where this is equal."""
    return row.data_version, row.data_fingerprint


def _table(data: str, rows: list[Row]) -> DatasetTable:
    best: dict[tuple[int, str], float] = {}
    for row in rows:
        if row.test_ll_nats is not None:
            best[_same_data(row)] = max(row.test_ll_nats, best.get(_same_data(row), row.test_ll_nats))
    lines = sorted((_line(row, best) for row in rows), key=_best_first)
    first = lines[0].row
    entries, refusal = _published_for(first)
    several = len({_same_data(row) for row in rows}) > 1
    return DatasetTable(
        data=data,
        dim=first.dim,
        n_test=first.n_test,
        space=first.space,
        partial=first.partial,
        best_ll_nats=None if several else next(iter(best.values()), None),
        lines=tuple(lines),
        references=tuple(_references(lines)),
        published=tuple(entries),
        notes=(*_notes(lines), *refusal),
    )


def _line(row: Row, best: dict[tuple[int, str], float]) -> Line:
    below = None if row.test_ll_nats is None else best[_same_data(row)] - row.test_ll_nats
    return Line(model_label(row), row, below)


def _best_first(line: Line) -> tuple[Any, ...]:
    row = line.row
    nats = row.test_ll_nats
    return nats is None, -(nats or 0.0), row.status, line.model, row.recipe, row.seed, row.run, row.started_at


def _references(lines: Sequence[Line]) -> list[Reference]:
    """The truth and the fitted Gaussian, once for each data that runs saw; a run of the Gaussian stands for itself."""
    found: dict[tuple[str, tuple[int, str]], Reference] = {}
    several = len({_same_data(line.row) for line in lines}) > 1
    for row in (line.row for line in lines):
        suffix = f" (v{row.data_version} {row.data_fingerprint[:6]})" if several else ""
        if row.true_test_ll_nats is not None:
            truth = Reference(f"truth{suffix}", row.true_test_ll_nats, None)
            found.setdefault(("truth", _same_data(row)), truth)
        if row.gaussian_test_ll_nats is not None:
            stderr = row.gaussian_test_ll_stderr_nats
            error = None if stderr is None else 2 * stderr
            gaussian = Reference(f"fitted Gaussian{suffix}", row.gaussian_test_ll_nats, error)
            found.setdefault(("gaussian", _same_data(row)), gaussian)
    for row in (line.row for line in lines):
        if row.flow == "gaussian" and row.test_ll_nats is not None:
            found.pop(("gaussian", _same_data(row)), None)
    return sorted(found.values(), key=lambda reference: -reference.test_ll_nats)


def _published_for(row: Row) -> tuple[list[Published], list[str]]:
    """The published numbers that may stand beside a run, and notes on them, or on why none may.

    Conditional ones never: they are densities given the class label, which no flow here is told.
    """
    name = row.data.partition("~")[0]
    shape = published_shape(name)
    if shape is None:
        return [], []
    if row.partial or row.data != name:
        return [], [f"partial data: the published numbers for {name} do not hold for it and are left out"]
    if (row.dim, row.n_test) != (shape.dim, shape.n_test):
        have, want = f"{row.n_test:,} of {row.dim}", f"{shape.n_test:,} test rows of {shape.dim} columns"
        return [], [f"the published numbers are for {want}, these runs had {have}: they are left out"]
    return [entry for entry in published(name) if not entry.conditional], [shape.note] if shape.note else []


def _notes(lines: Sequence[Line]) -> list[str]:
    rows = [line.row for line in lines]
    notes = []
    if len({_same_data(row) for row in rows}) > 1:
        notes.append(
            "runs differ in the data's version or fingerprint: their likelihoods are not comparable, "
            "and each is held against the best on its own data"
        )
    timed = [row.environment for row in rows if row.timings or row.train_seconds is not None]
    if len({(where.device, where.device_name, where.threads, where.dtype) for where in timed}) > 1:
        notes.append("times were taken on different devices, thread counts or dtypes: compare them within one only")
    for row in rows:
        if row.status != "ok":
            reason = (row.error or "no reason was recorded").strip().partition("\n")[0]
            notes.append(f"{row.run} {row.status}: {reason}")
    return notes


def _table_document(table: DatasetTable) -> dict[str, Any]:
    return {
        "data": table.data,
        "dim": table.dim,
        "n_test": table.n_test,
        "space": table.space,
        "partial": table.partial,
        "best_ll_nats": table.best_ll_nats,
        "runs": [
            {"model": line.model, "nats_below_best": line.nats_below_best} | line.row.model_dump(mode="json")
            for line in table.lines
        ],
        "references": [asdict(reference) for reference in table.references],
        "published": [asdict(entry) for entry in table.published],
        "notes": list(table.notes),
    }
