"""Runs set beside each other: one table a dataset, with the published numbers where they hold. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.console import warn
from flowbench.errors import NothingToCompareError
from flowbench.report.layout import given_groups
from flowbench.results.published import Published, published, published_shape
from flowbench.results.record import Estimate, RunRecord
from flowbench.results.statistics import paired_difference
from flowbench.results.store import UnreadableRecordError, read_test_lls

DOCUMENT_SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Line:
    """One run in its table. ``record`` has no figures unless the run ended ``ok``: others cannot be trusted.

    ``nats_below_best`` is 0 for the best run on the same data and its equals; None where the run has no likelihood. Its
    error is that of the paired differences, None where the per-row files of the two are not both there.
    """

    record: RunRecord
    nats_below_best: Estimate | None


@dataclass(frozen=True)
class Reference:
    """What runs are held against that is no run: the true density, the fitted Gaussian."""

    model: str
    test_ll_nats: Estimate


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


def tables(records: Mapping[Path, RunRecord]) -> list[DatasetTable]:
    """One table a dataset, in the order of their names, of records by their files. Partial data is a dataset.

    Raises NothingToCompareError where there is no record.
    """
    by_data: dict[str, dict[Path, RunRecord]] = {}
    for path, record in records.items():
        trusted = record if record.status == "ok" else record.without_figures()
        by_data.setdefault(record.task.data, {})[path] = trusted
    if not by_data:
        raise NothingToCompareError("no results were found", "run `flowbench train maf` first, or name a folder: --out")
    return [_table(data, found) for data, found in sorted(by_data.items())]


def document(found: Sequence[DatasetTable]) -> dict[str, Any]:
    """The tables as strict JSON has them: a run is its whole record beside its distance from the best."""
    return {"schema_version": DOCUMENT_SCHEMA_VERSION, "tables": [_table_document(table) for table in found]}


def _same_data(record: RunRecord) -> tuple[int, str]:
    """Likelihoods are comparable where this is equal."""
    return record.task.data_version, record.task.data_fingerprint


def _nats(record: RunRecord) -> float | None:
    test = record.likelihoods.test_ll_nats
    return test.mean if test else None


def _table(data: str, found: Mapping[Path, RunRecord]) -> DatasetTable:
    ordered = sorted(found.items(), key=lambda item: _best_first(item[1]))
    records = [record for _, record in ordered]
    best: dict[tuple[int, str], tuple[Path, RunRecord]] = {}
    for path, record in ordered:
        if _nats(record) is not None:
            best.setdefault(_same_data(record), (path, record))
    task = records[0].task
    entries, refusal = _published_for(records[0])
    several = len(set(map(_same_data, records))) > 1
    return DatasetTable(
        data=data,
        dim=task.dim,
        n_test=task.n_test,
        space=task.space,
        partial=task.partial,
        best_ll_nats=None if several else _nats(records[0]),
        lines=tuple(
            Line(record, _below(path, record, *best.get(_same_data(record), (path, record))))
            for path, record in ordered
        ),
        references=tuple(_references(records)),
        published=tuple(entries),
        notes=(*_notes(records), *refusal),
    )


def _below(path: Path, record: RunRecord, best_path: Path, best: RunRecord) -> Estimate | None:
    """Nats below the best run, with the error of the paired differences where both have their rows' likelihoods."""
    nats, most = _nats(record), _nats(best)
    if nats is None or most is None:
        return None
    stderr = None
    if most > nats:
        own, its = _test_lls(path, record), _test_lls(best_path, best)
        if own is not None and its is not None and own.shape == its.shape:
            stderr = paired_difference(its, own)[1]
    return Estimate(mean=most - nats, stderr=stderr)


def _test_lls(path: Path, record: RunRecord) -> NDArray[np.float64] | None:
    try:
        return read_test_lls(record, path.parent)
    except UnreadableRecordError as error:
        warn(f"without an error of the difference: {error}")
        return None


def _best_first(record: RunRecord) -> tuple[Any, ...]:
    nats, setup = _nats(record), record.setup
    name = record.model, setup.recipe, setup.seed, record.run, record.started_at
    return nats is None, -(nats or 0.0), record.status, *name


def _references(records: Sequence[RunRecord]) -> list[Reference]:
    """The truth and the fitted Gaussian, once for each data that runs saw; a run of the Gaussian stands for itself."""
    found: dict[tuple[str, tuple[int, str]], Reference] = {}
    several = len(set(map(_same_data, records))) > 1
    for record in records:
        task, seen, likelihoods = record.task, _same_data(record), record.likelihoods
        suffix = f" (v{task.data_version} {task.data_fingerprint[:6]})" if several else ""
        if likelihoods.true_test_ll_nats is not None:
            truth = Estimate(mean=likelihoods.true_test_ll_nats)
            found.setdefault(("truth", seen), Reference(f"truth{suffix}", truth))
        if likelihoods.gaussian_test_ll_nats:
            gaussian = Reference(f"fitted Gaussian{suffix}", likelihoods.gaussian_test_ll_nats)
            found.setdefault(("gaussian", seen), gaussian)
    for record in records:
        if record.task.flow == "gaussian" and _nats(record) is not None:
            found.pop(("gaussian", _same_data(record)), None)
    return sorted(found.values(), key=lambda reference: -(reference.test_ll_nats.mean or 0.0))


def _published_for(record: RunRecord) -> tuple[list[Published], list[str]]:
    """The published numbers that may stand beside a run, and notes on them, or on why none may.

    Conditional ones never: they are densities given the class label, which no flow here is told.
    """
    task = record.task
    name = task.data.partition("~")[0]
    shape = published_shape(name)
    if shape is None:
        return [], []
    if task.partial or task.data != name:
        return [], [f"partial data: the published numbers for {name} do not hold for it and are left out"]
    if (task.dim, task.n_test) != (shape.dim, shape.n_test):
        have, want = f"{task.n_test:,} of {task.dim}", f"{shape.n_test:,} test rows of {shape.dim} columns"
        return [], [f"the published numbers are for {want}, these runs had {have}: they are left out"]
    return [entry for entry in published(name) if not entry.conditional], [shape.note] if shape.note else []


def _notes(records: Sequence[RunRecord]) -> list[str]:
    notes = []
    if len(set(map(_same_data, records))) > 1:
        notes.append(
            "runs differ in the data's version or fingerprint: their likelihoods are not comparable, "
            "and each is held against the best on its own data"
        )
    groups = sorted({record.task.test_groups for record in records if record.task.test_groups})
    notes += [given_groups(number) for number in groups]
    timed = [record.environment for record in records if record.timings or record.training.train_seconds is not None]
    if len({(where.device, where.device_name, where.threads, where.dtype) for where in timed}) > 1:
        notes.append("times were taken on different devices, thread counts or dtypes: compare them within one only")
    for record in records:
        if record.status != "ok":
            reason = (record.error or "no reason was recorded").strip().partition("\n")[0]
            notes.append(f"{record.run} {record.status}: {reason}")
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
            {
                "model": line.record.model,
                "nats_below_best": line.nats_below_best and line.nats_below_best.model_dump(mode="json"),
                "record": line.record.model_dump(mode="json"),
            }
            for line in table.lines
        ],
        "references": [
            {"model": reference.model, "test_ll_nats": reference.test_ll_nats.model_dump(mode="json")}
            for reference in table.references
        ],
        "published": [asdict(entry) for entry in table.published],
        "notes": list(table.notes),
    }
