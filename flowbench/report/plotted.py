"""Which picture `flowbench plot` asks for. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowbench.console import one_line
from flowbench.errors import NothingToCompareError, UsageError, did_you_mean
from flowbench.report.figures import sketches
from flowbench.report.figures.curves import BY, By, curves, run_curve, spec
from flowbench.report.figures.differences import MOST_ON_PAPER, differences
from flowbench.report.figures.figure import Picture
from flowbench.report.figures.frontier import frontier
from flowbench.report.figures.history import history
from flowbench.report.figures.labels import labels
from flowbench.report.figures.scaling import scaling
from flowbench.report.ranking.tables import Table, tables
from flowbench.report.runs import Run
from flowbench.results import costs, sweeps
from flowbench.results.sketch import Sketch
from flowbench.results.store import read_sketch

OF_A_RUN = ("curves", "samples", "pairs", "pit")
OF_A_DATASET = ("curves", "pairs", "frontier", "history")

MOST_CURVES = 8
"""Runs whose curves are laid over each other on paper: there are as many colours."""


@dataclass(frozen=True)
class Wish:
    """What is to be drawn: the kind of picture, of a run or of a dataset's, and how.

    ``by`` is what curves are drawn against, ``columns`` how many of a paper's it may be wide, ``only`` those of the
    data.
    """

    kind: str
    run: str | None = None
    data: str | None = None
    flow: str | None = None
    by: By = "seconds"
    columns: str = "two"
    only: tuple[str, ...] = ()


def plotted(folder: Path, wish: Wish) -> Picture:
    """The picture that is wished for, of a run, of a dataset, or of neither where costs grow.

    Raises:
        NothingToCompareError: there are no such runs, or they have nothing of the kind.
        UsageError: there is no such run, or none of it is asked for or its column is unknown; the dataset is not said.
    """
    times: list[costs.TimeRecord] = []
    records, swept = sweeps.with_runs(folder, costs.into(times))
    if wish.kind == "scaling":
        return _there(scaling(times), "time of growing columns", "flowbench time maf --scaling measures it")
    if wish.run is not None:
        chosen = _named([Run(path, record) for path, record in records.items()], wish.run, folder)
        return _of_run(chosen, wish)
    found = tables(records, wish.data, wish.flow, passed_over=sweeps.passed_over(swept))
    if len(found) > 1:
        raise UsageError("there are several datasets", f"--data NAME, of {', '.join(table.name for table in found)}")
    return _of_dataset(found[0], wish)


def _there(picture: Picture | None, what: str, hint: str) -> Picture:
    if picture is None:
        raise NothingToCompareError(f"there is no {what}", hint)
    return picture


def _named(runs: Sequence[Run], name: str, folder: Path) -> Run:
    stem = Path(name).name.removesuffix(".json")
    found = [run for run in runs if run.record.run == stem]
    if not found:
        raise UsageError(f"{folder} has no run {stem!r}", did_you_mean(stem, {run.record.run for run in runs}))
    return max(found, key=lambda run: run.record.started_at)


def _of_dataset(table: Table, wish: Wish) -> Picture:
    kind, by = wish.kind, wish.by
    if kind not in OF_A_DATASET:
        raise UsageError(f"{kind} are of one run", "name it: flowbench plot RUN; `flowbench compare` lists them")
    names = labels(table)
    if kind == "curves":
        found = _there(curves(table, names), "history of a training", "train again: records have it now")
        return _few(found, by)
    if kind == "frontier":
        return _there(frontier(table, names), "run with times", "train one to its end")
    if kind == "history":
        return _there(history(table), "configuration of two revisions", "train it with another version of flowbench")
    return _there(
        differences(table, names, MOST_ON_PAPER[wish.columns]), "pair of lines", "train a second flow on the same rows"
    )


def _few(found: Picture, by: By) -> Picture:
    """The first runs' curves, as many as there are colours."""
    runs = list(dict.fromkeys(group.same["run"] for group in found.groups))
    kept = tuple(group for group in found.groups if group.same["run"] in runs[:MOST_CURVES])
    more = (f"the first {MOST_CURVES} of {len(runs)} runs",) if len(runs) > MOST_CURVES else ()
    if BY[by] not in found.variants:
        raise NothingToCompareError(f"no record says its {by}s", f"--by, of {', '.join(BY)}")
    return replace(found, spec=found.variants[BY[by]], groups=kept, notes=(*more, *found.notes))


def _of_run(run: Run, wish: Wish) -> Picture:
    kind, by = wish.kind, wish.by
    if kind not in OF_A_RUN:
        raise UsageError(f"{kind} is of all runs on a dataset", "name it with --data")
    record = run.record
    title = one_line(f"{record.model} on {record.task.data}")
    if kind == "curves":
        groups = tuple(run_curve(record, f"1 {title}"))
        if not groups:
            raise NothingToCompareError(f"{record.run} has no history of its training", "train it again")
        return Picture("curves", f"Training of {title}", "", spec(by), groups)
    sketch = read_sketch(record, run.path.parent)
    if sketch is None:
        raise NothingToCompareError(f"{record.run} has no sketch of its flow", "train it again with --force")
    return _of_sketch(sketch, title, kind, wish.only)


def _of_sketch(sketch: Sketch, title: str, kind: str, only: Sequence[str]) -> Picture:
    unknown = [name for name in only if name not in sketch.columns]
    if unknown:
        raise UsageError(f"there is no column {unknown[0]!r}", did_you_mean(unknown[0], sketch.columns))
    columns = [sketch.columns.index(name) for name in only] or None
    if kind == "pairs":
        return _there(sketches.pairs(sketch, title, columns), "pair of columns in the sketch", "it keeps the first ten")
    if kind == "pit":
        why = sketch.uncalibrated or "it keeps up to 64 columns"
        return _there(sketches.calibration(sketch, title, columns), "calibration in the sketch", why)
    found = sketches.marginals(sketch, title, columns)
    return _there(found[0] if found else None, "such column in the sketch", "it keeps up to 64 columns")
