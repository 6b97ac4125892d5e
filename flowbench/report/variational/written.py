"""Tables of bounds as JSON and CSV have them: every figure of full precision, its unit in its name. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from flowbench.files import utf8
from flowbench.report.runs import target_of
from flowbench.report.variational.tables import BoundTable, PosteriorTable, Row, TargetTable
from flowbench.results.published import published_posteriors
from flowbench.results.record import Estimate, Part, Trained

T = TypeVar("T", bound=Trained)


def posteriors_document(found: Sequence[PosteriorTable]) -> list[dict[str, Any]]:
    """As strict JSON has them: each row its whole record."""
    return [
        {"data": table.data, "rows": _rows(table), "published": list(map(asdict, published_posteriors(table.data)))}
        for table in found
    ]


def targets_document(found: Sequence[TargetTable]) -> list[dict[str, Any]]:
    """As `posteriors_document`."""
    return [{"target": target_of(table.data), "rows": _rows(table)} for table in found]


def csv_rows(posteriors: Sequence[PosteriorTable], targets: Sequence[TargetTable]) -> list[dict[str, Any]]:
    """One a posterior, one a published one, one a fit to a target."""
    rows = [
        row
        for table in posteriors
        for row in (*(_csv_row(row, row.record.bound) for row in table.rows), *_csv_published(table.data))
    ]
    return rows + [_csv_row(row, row.record.fit) for table in targets for row in table.rows]


def _rows(table: BoundTable[T]) -> list[dict[str, Any]]:
    return [
        {
            "path": utf8(row.path),
            "to_best_nats": row.to_best and {"mean": row.to_best.mean, "stderr": row.to_best.stderr},
            "record": row.record,
        }
        for row in table.rows
    ]


def _csv_row(row: Row[T], found: Part) -> dict[str, Any]:
    """What is known of every training, and all figures that were ``found``."""
    record = row.record
    about = {
        "data": record.task.data,
        "data_version": record.task.data_version,
        "data_fingerprint": record.task.data_fingerprint,
        "kind": record.kind,
        "model": record.model,
        "flow": record.task.flow,
        "recipe": record.setup.recipe,
        "seeds": str(record.setup.seed),
        "status": record.status,
    }
    return {
        **about,
        **_figures(found),
        "to_best_nats": row.to_best and row.to_best.mean,
        "to_best_stderr_nats": row.to_best and row.to_best.stderr,
        "train_seconds": record.training.train_seconds,
        "device": record.environment.device,
        "device_name": record.environment.device_name,
        "threads": record.environment.threads,
        "doubts": "; ".join(record.doubts),
    }


def _figures(found: Part) -> dict[str, Any]:
    """Of an estimate the mean and, in a column of its own, the standard error."""
    figures: dict[str, Any] = {}
    for name in type(found).model_fields:
        value = getattr(found, name)
        if isinstance(value, Estimate):
            figures |= {name: value.mean, f"{name.removesuffix('_nats')}_stderr_nats": value.stderr}
        elif value is not None:
            figures[name] = value
    return figures


def _csv_published(data: str) -> Iterator[dict[str, Any]]:
    for entry in published_posteriors(data):
        (bound, bound_sd), (estimate, estimate_sd) = entry.bound_nats, entry.log_likelihood_nats
        yield {
            "data": data,
            "kind": "published posterior",
            "model": entry.label,
            "bound_nats": bound,
            "bound_sd_over_runs_nats": bound_sd,
            "log_likelihood_nats": estimate,
            "log_likelihood_sd_over_runs_nats": estimate_sd,
            "source": entry.source,
        }
