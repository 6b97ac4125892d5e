"""Fits to targets as a person reads them: one at its end, and all of a folder, target by target. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from flowbench.results.variational import TargetRecord

NOTES = (
    "* KL(q || p): log Z minus the bound E_q[log p~ - log q], ± 2 standard errors over draws whose noise is the same "
    "for all; KL(p || q): over exact draws of p, where what q misses of p shows",
    "* log Z: by importance sampling of the same draws, of which so many per cent are effective",
    "* mean, sd: of the coordinate that is worst: how many of p's standard deviations off, and how many times p's",
    "* to the best: the paired difference of bounds ± 2 standard errors over draws: another seed may change more",
)


def summary(record: TargetRecord) -> RenderableType:
    """The record of one; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    lines = Table.grid(padding=(0, 2))
    for name, value in _lines(record):
        lines.add_row(f"  {name}", plain(value))
    title = f"{record.model} fitted to {_target(task.data)} · {plural(task.dim, 'coordinate')} · {where}"
    return Group(plain(title), lines, "", times(record.costs, record.task.flow))


def _lines(record: TargetRecord) -> Iterator[tuple[str, str]]:
    found, took = record.fit, record.training
    yield "bound on log Z", f"{interval(found.bound_nats)} nats, over {found.draws or 0:,} draws"
    truth = "" if found.true_log_z_nats is None else f"; it is {found.true_log_z_nats:.4f}"
    yield "log Z, estimated", f"{interval(found.log_z_nats, digits=4)} nats by importance sampling{truth}"
    if found.ess is not None and found.largest_weight is not None:
        share = f"{found.ess:,.0f} ({_percent(record)}%), the heaviest of {found.largest_weight:.2%} of all weight"
        yield "effective draws", share
    if found.kl_nats is not None:
        yield "KL(q || p), reverse", f"{interval(found.kl_nats, digits=4)} nats"
    if found.exact_draws:
        yield (
            "KL(p || q), forward",
            f"{interval(found.forward_kl_nats, digits=4)} nats, over {found.exact_draws:,} draws",
        )
    yield from _moments(record)
    if found.steps and took.train_seconds is not None:
        best = f"best epoch {took.best_epoch} of {took.epochs}"
        yield "training", f"{plural(found.steps, 'step')}, {best}, {took.train_seconds:.1f} s"
    passed = sum(check.passed for check in record.checks.values())
    yield "checks", f"{passed} of {len(record.checks)} passed" + (f": {record.error}" if record.error else "")
    for doubt in record.doubts:
        yield "doubt", doubt


def _moments(record: TargetRecord) -> Iterator[tuple[str, str]]:
    found = record.fit
    if found.worst_mean_in_sds is not None:
        where = _coordinate(found.worst_mean_coordinate)
        yield "worst mean", f"{found.worst_mean_in_sds:.3f} of the target's sd off{where}"
    if found.worst_sd_ratio is not None:
        exact = "" if found.exact_sd_ratio is None else f"; of exact draws it is {found.exact_sd_ratio:.3f}"
        yield (
            "worst sd",
            f"{found.worst_sd_ratio:.3f} times the target's{_coordinate(found.worst_sd_coordinate)}{exact}",
        )


def _coordinate(index: int | None) -> str:
    """From 1 on, as papers count."""
    return "" if index is None else f" (coordinate {index + 1})"


def _target(data: str) -> str:
    return data.removeprefix("target-")


def _percent(record: TargetRecord) -> str:
    found = record.fit
    return significant(100 * found.ess / found.draws) if found.ess is not None and found.draws else ""


@dataclass(frozen=True)
class TargetTable:
    """All fits to one target, the best bound on validation noise first."""

    target: str
    rows: tuple[Row[TargetRecord], ...]


def tables(records: Mapping[Path, TargetRecord], data: str | None = None, flow: str | None = None) -> list[TargetTable]:
    """One for each target, of this ``data`` (with or without ``target-``) and this flow."""
    chosen = {
        path: record
        for path, record in records.items()
        if data in (None, record.task.data, _target(record.task.data)) and flow in (None, record.task.flow)
    }
    ranked = by_rows(chosen, lambda record: record.fit.validation_bound_nats)
    return [TargetTable(_target(name), rows) for name, rows in ranked]


def sheets(found: Sequence[TargetTable]) -> list[Sheet]:
    """As they are printed."""
    return [_sheet(table) for table in found]


def _sheet(table: TargetTable) -> Sheet:
    records = [row.record for row in table.rows]
    fits = [record.fit for record in records]
    columns = [
        Column("fit", tuple(printable(record.model) for record in records), right=False),
        figured("bound", [figure(fit.bound_nats) for fit in fits], 3, high=True),
        figured("KL(q || p)", [figure(fit.kl_nats) for fit in fits], 0),
        figured("KL(p || q)", [figure(fit.forward_kl_nats) for fit in fits], 1),
        figured("to the best", [difference_figure(row.to_best) for row in table.rows], 4, sign="+"),
        figured("log Z", [figure(fit.log_z_nats) for fit in fits], 5),
        cells("effective\n%", [_percent(record) for record in records], 0, 2),
        _figures("mean\noff, sds", [fit.worst_mean_in_sds for fit in fits], 8),
        _figures("sd\nratio", [fit.worst_sd_ratio for fit in fits], 8),
        cells("sample\nµs/row", [cost(record.costs, "sample") for record in records], 0, 6),
        cells("density\nµs/row", [cost(record.costs, "density") for record in records], 0, 7),
        cells("steps", [f"{fit.steps:,}" if fit.steps else "" for fit in fits], 0, 9),
        cells("training", [duration(record.training.train_seconds) for record in records], 0, 5),
        cells("seed", [str(record.setup.seed) for record in records], 0, 13, folds=True),
        cells("device", [printable(record.environment.device_name) for record in records], 0, 14, folds=True),
        cells("state", ["" if record.status == "ok" else record.status for record in records], 0, 2),
    ]
    doubts = [f"* {printable(record.model)}: {printable(doubt)}" for record in records for doubt in record.doubts]
    log_z = fits[0].true_log_z_nats
    known = "log Z is not known" if log_z is None else f"log Z is {log_z:.4f}"
    heading = f"fits to {printable(table.target)} · {plural(records[0].task.dim, 'coordinate')} · {known}"
    return sheet(heading, columns, len(records), {}, [*NOTES, *doubts])


def _figures(header: str, values: Sequence[float | None], rank: int) -> Column:
    return figured(header, [Figure(value, None, 3) for value in values], rank)


def document(found: Sequence[TargetTable]) -> dict[str, Any]:
    """As strict JSON has them: each row its whole record."""
    return {
        "kind": "targets",
        "schema_version": SCHEMA_VERSION,
        "tables": [{"target": table.target, "rows": [row_document(row) for row in table.rows]} for table in found],
    }
