"""One table for each data: its lines in order, the best of them, references and published numbers. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flowbench.console import one_line
from flowbench.errors import NothingToCompareError, did_you_mean
from flowbench.report.layout import given_groups
from flowbench.report.ranking.lines import NOT_CHOSEN, Line, held_against, lines, mean
from flowbench.report.runs import Run, each_once, grouped, is_of, names_of, reason
from flowbench.results.published import Published, published, published_shape, unlabelled
from flowbench.results.record import Estimate, RunRecord, Task

Sort = Literal["validation", "test", "density", "sampling", "train", "name"]

BELOW_GAUSSIAN = "▼"

DOUBTED = "?"

AVERAGED = "published figures of flows that were given the class are of p(x), the mean over classes"


@dataclass(frozen=True)
class Reference:
    """What runs are held against that is no run: the true density, the fitted Gaussian."""

    model: str
    test_ll_nats: Estimate


@dataclass(frozen=True)
class Table:
    """All lines on one data, in the order asked for; published numbers only where the data is the published data.

    ``task`` is that of one of its runs. ``several`` says that there are tables of other data of this name. ``notes``
    are for the reader.
    """

    task: Task
    several: bool
    lines: tuple[Line, ...]
    references: tuple[Reference, ...]
    published: tuple[Published, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Line | None:
        """The line that others are held against; None where none ended well, or a sweep chose none of them."""
        return next((line for line in self.lines if line.mark == "best"), None)

    @property
    def name(self) -> str:
        """The data's, with its version and fingerprint where there are others of this name."""
        task = self.task
        return f"{task.data} (v{task.data_version} {task.data_fingerprint[:6]})" if self.several else task.data


def tables(
    records: Mapping[Path, RunRecord],
    data: str | None = None,
    flow: str | None = None,
    sort: Sort = "validation",
    passed_over: Collection[str] = frozenset(),
) -> list[Table]:
    """One table for each data, by name, of records by their files. Partial data, or other data of one name, is other.

    The best of a table is the first by validation log-likelihood, so that nobody selects on test rows, unless ``sort``
    is ``test``. It is never one of which every run is ``passed_over``: the names of runs that a sweep did not choose.

    Raises:
        NothingToCompareError: there is no record, or none of this data and flow.
    """
    chosen = _chosen(records, data, flow)
    found = grouped(chosen, lambda record: (record.task.data, record.task.data_version, record.task.data_fingerprint))
    names = [group[0].record.task.data for group in found]
    return [
        _table(group, names.count(group[0].record.task.data) > 1, sort, passed_over)
        for group in sorted(found, key=_data)
    ]


def _chosen(records: Mapping[Path, RunRecord], data: str | None, flow: str | None) -> list[Run]:
    if not records:
        raise NothingToCompareError("no results were found", "run `flowbench train maf` first, or name a folder: --out")
    there = records.values()
    if not any(is_of(record, data=data) for record in there):
        hint = did_you_mean(str(data), {name for record in there for name in names_of(record)})
        raise NothingToCompareError(f"no run is on the data {data!r}", hint)
    if not any(is_of(record, data, flow) for record in there):
        where = f" on the data {data!r}" if data is not None else ""
        hint = did_you_mean(str(flow), {record.task.flow for record in there if is_of(record, data)})
        raise NothingToCompareError(f"no run is of the flow {flow!r}{where}", hint)
    return [run for run in each_once(records) if is_of(run.record, data, flow)]


def _data(group: Sequence[Run]) -> tuple[str, int, str]:
    task = group[0].record.task
    return task.data, task.data_version, task.data_fingerprint


def _table(runs: Sequence[Run], several: bool, sort: Sort, passed_over: Collection[str]) -> Table:
    found = sorted(lines(runs, passed_over), key=_ORDERS["test" if sort == "test" else "validation"])
    best = next((line for line in found if line.test_ll_nats and line.mark != NOT_CHOSEN), None)
    found = held_against(found, best) if best else found
    task = runs[0].record.task
    entries, refusal = _published_for(task)
    return Table(
        task=task,
        several=several,
        lines=tuple(found if sort in ("validation", "test") else sorted(found, key=_ORDERS[sort])),
        references=tuple(_references(found)),
        published=tuple(entries),
        notes=(*_notes(found, best), *refusal),
    )


def _named(line: Line) -> tuple[Any, ...]:
    """A fixed order of lines that are otherwise equal; those without figures come last in every order."""
    return line.model, tuple(line.settings.items()), line.seeds, str(line.runs[0].path)


def _best_first(*means: float | None) -> tuple[Any, ...]:
    return tuple(part for nats in means for part in (nats is None, -(nats or 0.0)))


def _by_validation(line: Line) -> tuple[Any, ...]:
    validation, test = line.validation_ll_nats, line.test_ll_nats
    return test is None, *_best_first(mean(validation), mean(test)), *_named(line)


def _by_test(line: Line) -> tuple[Any, ...]:
    return *_best_first(mean(line.test_ll_nats)), *_named(line)


def _by_cost(direction: int) -> Callable[[Line], tuple[Any, ...]]:
    """By what a row costs at the largest batch."""

    def order(line: Line) -> tuple[Any, ...]:
        costs = line.costs()
        return not costs, costs[max(costs)][direction] if costs else 0.0, *_named(line)

    return order


def _by_training(line: Line) -> tuple[Any, ...]:
    return line.train_seconds is None, line.train_seconds or 0.0, *_named(line)


_ORDERS: dict[Sort, Callable[[Line], tuple[Any, ...]]] = {
    "validation": _by_validation,
    "test": _by_test,
    "density": _by_cost(0),
    "sampling": _by_cost(1),
    "train": _by_training,
    "name": lambda line: (line.test_ll_nats is None, *_named(line)),
}


def _references(found: Sequence[Line]) -> list[Reference]:
    """The truth and the fitted Gaussian; a run of the Gaussian stands for itself."""
    ended = [line for line in found if line.ended]
    truths = [line.record.likelihoods.true_test_ll_nats for line in ended]
    truth = [Reference("truth", Estimate(mean=nats)) for nats in truths if nats is not None]
    gaussians = [line.record.likelihoods.gaussian_test_ll_nats for line in ended]
    gaussian = [Reference("fitted Gaussian", fitted) for fitted in gaussians if fitted is not None]
    if any(line.record.task.flow == "gaussian" for line in ended):
        gaussian = []
    return sorted([*truth[:1], *gaussian[:1]], key=lambda reference: -(reference.test_ll_nats.mean or 0.0))


def _published_for(task: Task) -> tuple[list[Published], list[str]]:
    """The published numbers that may stand beside runs on this data, and notes on them, or on why none may.

    Beside densities given the class those stand whose flow was given it too, and no others.
    """
    name = unlabelled(task.data.partition("~")[0])
    shape = published_shape(name)
    if shape is None:
        return [], []
    if task.partial or unlabelled(task.data) != name:
        return [], [f"partial data: the published numbers for {name} do not hold for it and are left out"]
    if (task.dim, task.n_test) != (shape.dim, shape.n_test):
        have, want = f"{task.n_test:,} of {task.dim}", f"{shape.n_test:,} test rows of {shape.dim} columns"
        return [], [f"the published numbers are for {want}, these runs had {have}: they are left out"]
    entries = [entry for entry in published(name) if entry.conditional == bool(task.given)]
    notes = [AVERAGED] if task.given and entries else []
    return entries, [*notes, shape.note] if shape.note else notes


def _notes(found: Sequence[Line], best: Line | None) -> list[str]:
    records = [run.record for line in found for run in line.runs]
    groups = sorted({record.task.test_groups for record in records if record.task.test_groups})
    failed = [f"{record.run} {record.status}: {reason(record)}" for record in records if record.status != "ok"]
    ended = [run.record for line in found for run in line.ended]
    doubted = [f"{DOUBTED} {record.run}: {doubt}" for record in ended for doubt in record.doubts]
    about = [*map(given_groups, groups), *notes_on_times(records), *failed, *doubted]
    return [*_notes_on_marks(found, best), *map(one_line, about)]


def _notes_on_marks(found: Sequence[Line], best: Line | None) -> Iterable[str]:
    if best and best.validation_ll_nats is None:
        yield "no validation likelihood was recorded: the best is chosen on test rows"
    tested = sum(line.to_best is not None and line.to_best.p is not None for line in found)
    if any(line.mark == "tied" for line in found):
        yield f"tied: the paired difference to the best may be chance (p > 0.05, by Holm over {tested} differences)"
    if any(line.to_best and line.to_best.difference and not line.to_best.difference.seeds_dof for line in found):
        yield "of one seed, ± is the error over test rows alone: another seed may change more than that"
    if any(line.mark == NOT_CHOSEN for line in found):
        yield "not chosen: a sweep chose other settings of the flow on validation rows, so it is neither best nor tied"
    if any(line.to_best and line.to_best.difference is None for line in found):
        yield "to best without ±: per-row likelihoods of the same test rows are not there, and no tie is looked for"
    if any(line.is_below_gaussian for line in found):
        yield f"{BELOW_GAUSSIAN} below its Gaussian: the one fitted to the same training rows gives the test rows more"


def notes_on_times(records: Sequence[RunRecord]) -> Iterable[str]:
    """What to mind in the times of these runs."""
    ended = [record for record in records if record.status == "ok"]
    timed = [record.environment for record in ended if record.timings or record.training.train_seconds is not None]
    if len({(where.device, where.device_name, where.threads, where.dtype) for where in timed}) > 1:
        yield "times were taken on different devices, thread counts or dtypes: compare them within one only"
