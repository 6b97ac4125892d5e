"""Tables of posteriors as JSON and CSV have them: every figure of full precision, its unit in its name. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from flowbench.files import utf8
from flowbench.report.posteriors.tables import PosteriorTable, Row
from flowbench.results.published import published_posteriors


def document(found: Sequence[PosteriorTable]) -> list[dict[str, Any]]:
    """As strict JSON has them: each row its whole record."""
    return [
        {
            "data": table.data,
            "rows": [
                {
                    "path": utf8(row.path),
                    "to_best_nats": row.to_best and {"mean": row.to_best.mean, "stderr": row.to_best.stderr},
                    "record": row.record,
                }
                for row in table.rows
            ],
            "published": [asdict(entry) for entry in published_posteriors(table.data)],
        }
        for table in found
    ]


def csv_rows(found: Sequence[PosteriorTable]) -> list[dict[str, Any]]:
    """One a posterior, and one a published one."""
    return [row for table in found for row in (*map(_csv_row, table.rows), *_csv_published(table.data))]


def _csv_row(row: Row) -> dict[str, Any]:
    record, bound = row.record, row.record.bound
    estimates = {name: getattr(bound, f"{name}_nats") for name in ("bound", "log_likelihood", "kl", "reconstruction")}
    figures = {f"{name}_nats": found and found.mean for name, found in estimates.items()}
    errors = {f"{name}_stderr_nats": found and found.stderr for name, found in estimates.items()}
    counts = ("importance_samples", "ess", "bias_nats", "latents", "active_latents", "validation_bound_nats")
    return {
        "data": record.task.data,
        "data_version": record.task.data_version,
        "data_fingerprint": record.task.data_fingerprint,
        "kind": "posterior",
        "model": record.model,
        "flow": record.task.flow,
        "recipe": record.setup.recipe,
        "seeds": str(record.setup.seed),
        "status": record.status,
        **figures,
        **errors,
        "to_best_nats": row.to_best and row.to_best.mean,
        "to_best_stderr_nats": row.to_best and row.to_best.stderr,
        **{name: getattr(bound, name) for name in counts},
        "networks": record.networks,
        "train_seconds": record.training.train_seconds,
        "device": record.environment.device,
        "device_name": record.environment.device_name,
        "threads": record.environment.threads,
        "doubts": "; ".join(record.doubts),
    }


def _csv_published(data: str) -> Iterator[dict[str, Any]]:
    for entry in published_posteriors(data):
        (bound, bound_error), (estimate, estimate_error) = entry.bound_nats, entry.log_likelihood_nats
        yield {
            "data": data,
            "kind": "published posterior",
            "model": entry.label,
            "bound_nats": bound,
            "bound_stderr_nats": bound_error / 2,
            "log_likelihood_nats": estimate,
            "log_likelihood_stderr_nats": estimate_error / 2,
            "source": entry.source,
        }
