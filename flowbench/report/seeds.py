"""Several seeds of one training: a line each, and what they are together. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural
from flowbench.report.layout import given_groups, plain
from flowbench.report.runs import Run, test_lls
from flowbench.results.record import RunRecord
from flowbench.results.statistics import mean_and_stderr


def summary_of_seeds(records: Sequence[RunRecord], folder: Path) -> RenderableType:
    """The runs of ``folder``, and the mean over those that ended well with two errors that are never mixed up.

    The error over test rows says what other rows would have changed of that mean, the standard deviation over seeds
    what another seed would be like.
    """
    first = records[0].task
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("seed", "", "validation nats", "test nats ± 2 s.e.", "epochs", "train"):
        table.add_column(name, justify="left" if name == "" else "right")
    for record in records:
        table.add_row(*_cells(record))
    title = f"{records[0].model} on {first.data} · {first.n_test:,} test rows · nats in {first.space} space"
    return Group(plain(title), table, *_together(records, folder))


def _cells(record: RunRecord) -> tuple[str, ...]:
    test, training = record.likelihoods.test_ll_nats, record.training
    error = f" ± {2 * test.stderr:.3f}" if test and test.stderr is not None else ""
    validation = record.likelihoods.validation_ll_nats
    return (
        str(record.setup.seed),
        record.status,
        "" if validation is None else f"{validation:.3f}",
        "" if test is None or test.mean is None else f"{test.mean:.3f}{error}",
        "" if training.epochs is None else f"{training.epochs:,}",
        "" if training.train_seconds is None else f"{training.train_seconds:.1f} s",
    )


def _together(records: Sequence[RunRecord], folder: Path) -> list[RenderableType]:
    runs = [Run(folder / f"{record.run}.json", record) for record in records if record.status == "ok"]
    means = [run.nats for run in runs if run.nats is not None]
    if len(means) < 2:
        return []
    figures = Table.grid(padding=(0, 2))
    figures.add_row(plain(f"  mean over {plural(len(means), 'seed')}"), plain(f"{statistics.fmean(means):.3f} nats"))
    rows = test_lls(runs)
    if rows is not None:
        _, error = mean_and_stderr(np.mean(rows, axis=0))
        figures.add_row(plain("  ± 2 standard errors over test rows"), plain(f"± {2 * error:.3f} nats"))
    by_group = [run.record.likelihoods.test_ll_nats for run in runs]
    groups = runs[0].record.task.test_groups
    if groups and all(each is not None and each.stderr_by_group is not None for each in by_group):
        error = statistics.fmean(each.stderr_by_group or 0.0 for each in by_group if each is not None)
        figures.add_row(plain("  by photograph, at the most"), plain(f"± {2 * error:.3f} nats; {given_groups(groups)}"))
    figures.add_row(plain("  standard deviation over seeds"), plain(f"{statistics.stdev(means):.3f} nats"))
    return [plain(""), figures]
