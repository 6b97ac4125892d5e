"""Posteriors as a person reads them: one at its end, and all of a folder beside the IAF paper's table. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural, printable
from flowbench.report.layout import Column, Figure, duration, figured, plain, significant
from flowbench.report.ranking.document import SCHEMA_VERSION
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.variational import (
    Row,
    by_rows,
    cells,
    cost,
    difference_figure,
    figure,
    interval,
    row_document,
    times,
)
from flowbench.results.published import published_posteriors
from flowbench.results.variational import PosteriorRecord

NOTES = (
    "* bound: E_q[log p(x, z) − log q(z | x)] ± 2 standard errors over test rows; KL: of the posterior from the prior",
    "* log p(x): by importance sampling, an estimate that is too low on average, by about the bias; of 128 samples "
    "unless another number stands there",
    "* to the best: the paired difference of bounds ± 2 standard errors over test rows: another seed may change more",
)


def summary(record: PosteriorRecord) -> RenderableType:
    """The record of one; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    shape = f"{task.n_train:,} / {task.n_validation:,} / {task.n_test:,} rows of {plural(task.dim, 'column')}"
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    figures = Table.grid(padding=(0, 2))
    for name, value in _lines(record):
        figures.add_row(f"  {name}", plain(value))
    title = f"posterior {record.model} on {task.data} · {shape} · {record.networks} · {where}"
    return Group(plain(title), figures, "", times(record.costs, "the posterior"))


def _lines(record: PosteriorRecord) -> Iterator[tuple[str, str]]:
    found, took = record.bound, record.training
    yield "variational bound", f"{interval(found.bound_nats)} nats ({record.task.space} space)"
    ess = "" if found.ess is None else f", {found.ess:.1f} of them effective"
    samples = f"by {plural(found.importance_samples or 0, 'importance sample')} of each row{ess}"
    bias = "" if found.bias_nats is None else f", about {found.bias_nats:.2g} too low"
    yield "log p(x), estimated", f"{interval(found.log_likelihood_nats)} nats {samples}{bias}"
    if found.nats_below_truth is not None:
        below = interval(found.nats_below_truth, digits=5)
        yield "bound below the truth", f"{below} nats; log p(x) is {found.true_test_ll_nats:.3f}"
    yield "KL from the prior", f"{interval(found.kl_nats)} nats"
    yield "reconstruction", f"{interval(found.reconstruction_nats)} nats"
    yield "active latents", f"{found.active_latents} of {found.latents}"
    if took.epochs and took.train_seconds is not None:
        rate = f"{took.train_rows_per_second:,.0f} rows/s"
        yield "training", f"{plural(took.epochs, 'epoch')}, best {took.best_epoch}, {took.train_seconds:.1f} s, {rate}"
    passed = sum(check.passed for check in record.checks.values())
    yield "checks", f"{passed} of {len(record.checks)} passed" + (f": {record.error}" if record.error else "")
    for doubt in record.doubts:
        yield "doubt", doubt


@dataclass(frozen=True)
class PosteriorTable:
    """All posteriors on one set of rows, the best bound on validation rows first."""

    data: str
    rows: tuple[Row[PosteriorRecord], ...]


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
    ranked = by_rows(chosen, lambda record: record.bound.validation_bound_nats)
    return [PosteriorTable(data, rows) for data, rows in ranked]


def sheets(found: Sequence[PosteriorTable]) -> list[Sheet]:
    """As they are printed."""
    return [_sheet(table) for table in found]


def _sheet(table: PosteriorTable) -> Sheet:
    records, published = [row.record for row in table.rows], published_posteriors(table.data)
    more = len(published)
    bounds = [record.bound for record in records]
    estimates = {
        "bound": ([bound.bound_nats for bound in bounds], [entry.bound_nats for entry in published]),
        "log p(x)": ([bound.log_likelihood_nats for bound in bounds], [each.log_likelihood_nats for each in published]),
    }
    to_best = [row.to_best for row in table.rows]
    columns = [
        Column("posterior", tuple([printable(r.model) for r in records] + [e.label for e in published]), right=False),
        *(
            figured(name, [*map(figure, own), *(Figure(mean, error) for mean, error in theirs)], rank, high=True)
            for rank, (name, (own, theirs)) in zip((0, 1), estimates.items(), strict=True)
        ),
        figured(
            "to the best",
            [*map(difference_figure, to_best)] + [Figure(None, None)] * more,
            2,
            sign="+",
        ),
        cells("samples", [str(bound.importance_samples or "") for bound in bounds], more, 9),
        cells("effective", [significant(bound.ess) for bound in bounds], more, 7),
        cells("bias", [significant(bound.bias_nats) for bound in bounds], more, 8),
        figured("KL", [figure(bound.kl_nats) for bound in bounds] + [Figure(None, None)] * more, 4),
        figured("recon-\nstruction", [figure(b.reconstruction_nats) for b in bounds] + [Figure(None, None)] * more, 10),
        cells("active\nlatents", [f"{b.active_latents}/{b.latents}" if b.latents else "" for b in bounds], more, 6),
        cells("sample\nµs/row", [cost(record.costs, "sample") for record in records], more, 3),
        cells("density\nµs/row", [cost(record.costs, "density") for record in records], more, 5),
        cells("training", [duration(record.training.train_seconds) for record in records], more, 11),
        cells("networks", [record.networks for record in records], more, 12, folds=True),
        cells("seed", [str(record.setup.seed) for record in records], more, 13, folds=True),
        cells("device", [printable(record.environment.device_name) for record in records], more, 14, folds=True),
        cells("state", ["" if record.status == "ok" else record.status for record in records], more, 2),
    ]
    rows = f"{records[0].task.n_test:,} test rows"
    sections = {len(records): "published"} if published else {}
    sources = [f"* published: {source}" for source in dict.fromkeys(entry.source for entry in published)]
    doubts = [f"* {printable(record.model)}: {printable(doubt)}" for record in records for doubt in record.doubts]
    heading = f"posteriors on {printable(table.data)} · {rows}"
    return sheet(heading, columns, len(records), sections, [*NOTES, *sources, *doubts])


def document(found: Sequence[PosteriorTable]) -> dict[str, Any]:
    """As strict JSON has them: each row its whole record."""
    return {
        "kind": "posteriors",
        "schema_version": SCHEMA_VERSION,
        "tables": [
            {
                "data": table.data,
                "rows": [row_document(row) for row in table.rows],
                "published": [asdict(entry) for entry in published_posteriors(table.data)],
            }
            for table in found
        ],
    }
