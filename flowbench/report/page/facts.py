"""A run in words and figures, as its page has them. No torch."""

from __future__ import annotations

from typing import Any

from flowbench.console import one_line
from flowbench.report.layout import duration, significant
from flowbench.report.page.pool import Pool
from flowbench.report.ranking.columns import device
from flowbench.results.record import Estimate, RunRecord


def facts(record: RunRecord, pool: Pool) -> dict[str, Any]:
    """What a run is, what it came to, where and how; settings and machines that others have, too, are there once."""
    task, setup, where = record.task, record.setup, record.environment
    versions = {name: one_line(version) for name, version in where.versions.items()}
    place = {
        "device": device(where),
        "platform": one_line(where.platform),
        "revision": one_line(where.git_revision or "unknown"),
        **versions,
    }
    return {
        "title": one_line(f"{record.model}, seed {setup.seed}"),
        "status": record.status,
        "error": None if record.error is None else one_line(record.error),
        "figures": _figures(record),
        "checks": [
            [one_line(check.what or name), check.value, check.limit, check.passed]
            for name, check in record.checks.items()
        ],
        "doubts": [one_line(doubt) for doubt in record.doubts],
        "kinds": {one_line(name): one_line(kind) for name, kind in task.kinds.items()},
        "settings": pool.place({key: _said(value) for key, value in setup.config.items()}),
        "environment": pool.place(place),
    }


def _said(value: Any) -> str:
    return one_line(value if isinstance(value, str) else repr(value))


def _figures(record: RunRecord) -> list[list[str]]:
    found, training, task = record.likelihoods, record.training, record.task
    nats = f"nats in {task.space} space"
    lines = [
        ["test log-likelihood", _interval(found.test_ll_nats), nats],
        ["validation log-likelihood", _number(found.validation_ll_nats), nats],
        ["fitted Gaussian", _interval(found.gaussian_test_ll_nats), nats],
        ["in the data's own units", _number(found.test_ll_own_units_nats), "nats"],
        ["averaged over the classes", _interval(found.class_averaged_test_ll_nats), "nats"],
        ["bits per pixel", _interval(found.bits_per_pixel), ""],
        ["below the truth (KL)", _interval(found.nats_below_truth), "nats"],
        ["epochs, the best one", _epochs(record), ""],
        ["training", duration(training.train_seconds), ""],
        ["parameters", "" if task.parameters is None else f"{task.parameters:,}", ""],
        ["rows for training, validation, test", f"{task.n_train:,}, {task.n_validation:,}, {task.n_test:,}", ""],
        ["recipe", record.setup.recipe, ""],
        ["begun", record.started_at, ""],
    ]
    for timing in record.timings:
        costs = f"{significant(timing.density_us_per_row)} and {significant(timing.sampling_us_per_row)}"
        lines.append([f"a density and a sample, {timing.batch:,} rows at a time", costs, "µs a row"])
    return [[name, one_line(value), one_line(unit)] for name, value, unit in lines if value]


def _epochs(record: RunRecord) -> str:
    training = record.training
    return f"{training.epochs:,}, {training.best_epoch}" if training.epochs else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(found: Estimate | None) -> str:
    if found is None or found.mean is None:
        return ""
    return f"{found.mean:.3f}" + ("" if found.stderr is None else f" ± {2 * found.stderr:.3f}")
