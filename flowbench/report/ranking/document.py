"""Tables as JSON and CSV have them: every figure as a number of full precision, its unit in its name. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flowbench.files import utf8
from flowbench.report.ranking.columns import spelt_out
from flowbench.report.ranking.lines import Line, OverSeeds, ToBest, mean
from flowbench.report.ranking.tables import Table

SCHEMA_VERSION = 3
"""Of the documents that ``compare --json`` prints."""


def document(found: Sequence[Table]) -> dict[str, Any]:
    """The tables as strict JSON has them: a run is its whole record, without the figures that nobody should trust.

    Tables and their lines are iterators: of ten thousand runs they would take as much memory again.
    """
    return {"kind": "ranking", "schema_version": SCHEMA_VERSION, "tables": map(_table, found)}


def _table(table: Table) -> dict[str, Any]:
    task = table.task
    about = ("data", "data_version", "data_fingerprint", "partial", "space", "dim", "n_test")
    return {name: getattr(task, name) for name in about} | {
        "lines": map(_line, table.lines),
        "references": [
            {"model": reference.model, "test_ll_nats": reference.test_ll_nats.model_dump(mode="json")}
            for reference in table.references
        ],
        "published": [asdict(entry) for entry in table.published],
        "notes": list(table.notes),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "model": line.model,
        "mark": line.mark,
        "settings": line.settings,
        "seeds": line.seeds,
        "is_below_gaussian": line.is_below_gaussian,
        "doubts": line.doubts,
        "validation_ll_nats": _over_seeds(line.validation_ll_nats),
        "test_ll_nats": _over_seeds(line.test_ll_nats),
        "class_averaged_test_ll_nats": _over_seeds(line.class_averaged_test_ll_nats),
        "to_best_nats": _to_best(line.to_best),
        "runs": [
            {"path": utf8(run.path), "record": (run.record if run in line.ended else run.record.without_figures())}
            for run in line.runs
        ],
    }


def _over_seeds(found: OverSeeds | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _to_best(found: ToBest | None) -> dict[str, Any] | None:
    if found is None:
        return None
    paired = found.difference
    return {
        "mean": found.mean,
        "stderr": paired and paired.stderr,
        "rows_stderr": paired and paired.rows_stderr,
        "seeds_stderr": paired and paired.seeds_stderr,
        "p_holm": found.p,
    }


def csv_rows(found: Sequence[Table]) -> list[dict[str, Any]]:
    """One a line of every table, then a table's references and published numbers; ``kind`` says which it is."""
    return [row for table in found for row in _csv_rows(table)]


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV, with every column that one of them has; what a row does not know is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_rows(table: Table) -> list[dict[str, Any]]:
    task = table.task
    about = {"data": task.data, "data_version": task.data_version, "data_fingerprint": task.data_fingerprint}
    rows = [{**about, "kind": "runs", **_csv_line(line)} for line in table.lines]
    for reference in table.references:
        nats = reference.test_ll_nats
        figures: dict[str, Any] = {"test_ll_nats": nats.mean, "test_ll_stderr_nats": nats.stderr}
        rows.append({**about, "kind": "reference", "model": reference.model, **figures})
    for entry in table.published:
        stderr = None if entry.two_stderr_nats is None else entry.two_stderr_nats / 2
        figures = {"test_ll_nats": entry.test_ll_nats, "test_ll_stderr_nats": stderr, "source": entry.source}
        kind = "published" if entry.density == "exact" else "published, estimated density"
        rows.append({**about, "kind": kind, "model": entry.model, "bits_per_pixel": entry.bits_per_pixel, **figures})
    return rows


def _csv_line(line: Line) -> dict[str, Any]:
    record, test, validation = line.record, line.test_ll_nats, line.validation_ll_nats
    where, to_best = record.environment, _to_best(line.to_best) or {}
    about: dict[str, Any] = {
        "model": line.model,
        "flow": record.task.flow,
        "recipe": record.setup.recipe,
        "settings": spelt_out(line),
        "seeds": " ".join(map(str, line.seeds)),
        "status": record.status,
        "mark": line.mark,
        "is_below_gaussian": line.is_below_gaussian,
        "validation_ll_nats": mean(validation),
        "validation_ll_sd_over_seeds_nats": validation and validation.seeds_sd,
        "test_ll_nats": mean(test),
        "test_ll_stderr_nats": test and test.stderr,
        "test_ll_stderr_by_group_nats": test and test.stderr_by_group,
        "test_ll_sd_over_seeds_nats": test and test.seeds_sd,
        "to_best_nats": to_best.get("mean"),
        "to_best_stderr_nats": to_best.get("stderr"),
        "to_best_p_holm": to_best.get("p_holm"),
        "gaussian_test_ll_nats": mean(line.gaussian_test_ll_nats),
        "bits_per_pixel": mean(line.bits_per_pixel),
        "nats_below_truth": mean(line.nats_below_truth),
        "class_averaged_test_ll_nats": mean(line.class_averaged_test_ll_nats),
        "train_seconds": line.train_seconds,
        "density_passes": record.task.density_passes,
        "sampling_passes": record.task.sampling_passes,
        "device": where.device,
        "device_name": where.device_name,
        "threads": where.threads,
        "dtype": where.dtype,
        "git_revision": where.git_revision,
        "code_digest": where.code_digest,
        "doubts": "; ".join(line.doubts),
    }
    return about | {
        f"{direction}_us_per_row_at_{batch}": cost
        for batch, costs in line.costs().items()
        for direction, cost in zip(("density", "sampling"), costs, strict=True)
    }
