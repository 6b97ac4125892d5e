"""Posteriors as a person reads them: one at its end, and all of a folder beside the IAF paper's table. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural, printable
from flowbench.files import utf8
from flowbench.report.layout import Column, Figure, duration, figured, plain, significant
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.runs import Run, has_rows_of, test_lls
from flowbench.report.settings import differing
from flowbench.results.inference import Difference, difference
from flowbench.results.published import published_posteriors
from flowbench.results.record import Estimate, configuration
from flowbench.results.variational import PosteriorRecord, PosteriorTiming

NOTES = (
    "* bound: E_q[log p(x, z) − log q(z | x)] ± 2 standard errors over test rows; KL: of the posterior from the prior",
    "* log p(x): by importance sampling, an estimate that is too low on average, by about the bias; of 128 samples "
    "unless another number stands there",
    "* to the best: the paired difference of bounds ± 2 standard errors over test rows: another seed may change more",
)

BATCH = 1000
"""Of the times that are shown."""


def summary(record: PosteriorRecord) -> RenderableType:
    """The record of one; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    shape = f"{task.n_train:,} / {task.n_validation:,} / {task.n_test:,} rows of {plural(task.dim, 'column')}"
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    figures = Table.grid(padding=(0, 2))
    for name, value in _lines(record):
        figures.add_row(f"  {name}", plain(value))
    title = f"posterior {record.model} on {task.data} · {shape} · {record.networks} · {where}"
    return Group(plain(title), figures, "", _times(record.costs))


def _lines(record: PosteriorRecord) -> Iterator[tuple[str, str]]:
    found, took = record.bound, record.training
    yield "variational bound", f"{_interval(found.bound_nats)} nats ({record.task.space} space)"
    ess = "" if found.ess is None else f", {found.ess:.1f} of them effective"
    samples = f"by {plural(found.importance_samples or 0, 'importance sample')} of each row{ess}"
    bias = "" if found.bias_nats is None else f", about {found.bias_nats:.2g} too low"
    yield "log p(x), estimated", f"{_interval(found.log_likelihood_nats)} nats {samples}{bias}"
    if found.nats_below_truth is not None:
        below = _interval(found.nats_below_truth, digits=5)
        yield "bound below the truth", f"{below} nats; log p(x) is {found.true_test_ll_nats:.3f}"
    yield "KL from the prior", f"{_interval(found.kl_nats)} nats"
    yield "reconstruction", f"{_interval(found.reconstruction_nats)} nats"
    yield "active latents", f"{found.active_latents} of {found.latents}"
    if took.epochs and took.train_seconds is not None:
        rate = f"{took.train_rows_per_second:,.0f} rows/s"
        yield "training", f"{plural(took.epochs, 'epoch')}, best {took.best_epoch}, {took.train_seconds:.1f} s, {rate}"
    passed = sum(check.passed for check in record.checks.values())
    yield "checks", f"{passed} of {len(record.checks)} passed" + (f": {record.error}" if record.error else "")
    for doubt in record.doubts:
        yield "doubt", doubt


def _times(costs: Sequence[PosteriorTiming]) -> Table:
    """Both directions of the posterior, by each way, at each batch size."""
    table = Table(title="the posterior, microseconds per row, median (quartiles)", title_justify="left")
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


def _interval(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None or estimate.mean is None:
        return "not finite"
    return f"{estimate.mean:.{digits}f}" + (
        f" ± {2 * estimate.stderr:.{digits}f}" if estimate.stderr is not None else ""
    )


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
    return None if rows is None else difference(rows[:1], rows[1:]).as_measured


def as_sheet(table: PosteriorTable) -> Sheet:
    """As it is printed."""
    records, published = [row.record for row in table.rows], published_posteriors(table.data)
    more = len(published)
    bounds = [record.bound for record in records]
    estimates = {
        "bound": ([bound.bound_nats for bound in bounds], [entry.bound_nats for entry in published]),
        "log p(x)": ([bound.log_likelihood_nats for bound in bounds], [each.log_likelihood_nats for each in published]),
    }
    to_best = [row.to_best for row in table.rows]
    below = [bound.nats_below_truth for bound in bounds]
    settings = [", ".join(f"{key}={value}" for key, value in own.items()) for own in differing(records)]
    columns = [
        Column("posterior", tuple([printable(r.model) for r in records] + [e.label for e in published]), right=False),
        *(
            figured(name, [*map(_figure, own), *(Figure(mean, error) for mean, error in theirs)], rank, high=True)
            for rank, (name, (own, theirs)) in zip((0, 1), estimates.items(), strict=True)
        ),
        figured(
            "to the best",
            [Figure(d.mean, 2 * d.stderr) if d else Figure(None, None) for d in to_best] + [Figure(None, None)] * more,
            2,
            sign="+",
        ),
        _cells("samples", [str(bound.importance_samples or "") for bound in bounds], more, 9),
        _cells("effective", [significant(bound.ess) for bound in bounds], more, 7),
        _cells("bias", [significant(bound.bias_nats) for bound in bounds], more, 8),
        *([figured("below truth", [*map(_figure, below), *[Figure(None, None)] * more], 3)] if any(below) else []),
        *(
            [Column("settings", (*settings, *[""] * more), 15, folds=True, named=False, right=False)]
            if any(settings)
            else []
        ),
        figured("KL", [_figure(bound.kl_nats) for bound in bounds] + [Figure(None, None)] * more, 4),
        figured(
            "recon-\nstruction", [_figure(b.reconstruction_nats) for b in bounds] + [Figure(None, None)] * more, 10
        ),
        _cells("active\nlatents", [f"{b.active_latents}/{b.latents}" if b.latents else "" for b in bounds], more, 6),
        _cells("sample\nµs/row", [_cost(record, "sample") for record in records], more, 3),
        _cells("density\nµs/row", [_cost(record, "density") for record in records], more, 5),
        _cells("training", [duration(record.training.train_seconds) for record in records], more, 11),
        _cells("networks", [record.networks for record in records], more, 12, folds=True),
        _cells("seed", [str(record.setup.seed) for record in records], more, 13, folds=True),
        _cells("device", [printable(record.environment.device_name) for record in records], more, 14, folds=True),
        _cells("state", ["" if record.status == "ok" else record.status for record in records], more, 2),
    ]
    rows = f"{records[0].task.n_test:,} test rows"
    sections = {len(records): "published"} if published else {}
    sources = [f"* published: {source}" for source in dict.fromkeys(entry.source for entry in published)]
    said = (f"* {printable(record.model)}: {printable(doubt)}" for record in records for doubt in record.doubts)
    doubts = list(dict.fromkeys(said))
    heading = f"posteriors on {printable(table.data)} · {rows}"
    return sheet(heading, columns, len(records), sections, [*NOTES, *sources, *doubts])


def _cells(header: str, cells: Sequence[str], more: int, rank: int, folds: bool = False, named: bool = True) -> Column:
    return Column(header, (*cells, *[""] * more), rank, folds=folds, named=named, right=not folds)


def _figure(estimate: Estimate | None) -> Figure:
    if estimate is None or estimate.mean is None:
        return Figure(None, None)
    return Figure(estimate.mean, None if estimate.stderr is None else 2 * estimate.stderr)


def _cost(record: PosteriorRecord, direction: str) -> str:
    """By the faster way, at the batch that is shown."""
    found = [cost.us_per_row for cost in record.costs if cost.direction == direction and cost.batch == BATCH]
    return significant(min(found, default=None))


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
