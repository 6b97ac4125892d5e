"""Which runs are held against which: a line is a flow on a dataset in one configuration, its seeds on two sides."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowbench.console import plural
from flowbench.report.gate.findings import Verdict
from flowbench.report.runs import Run, code, each_once, grouped, other_rows
from flowbench.report.settings import differing
from flowbench.results.record import Trained, configuration

AnyRun = Run[Trained]


@dataclass(frozen=True)
class Line:
    """The seeds of one configuration on two sides.

    ``problem`` is a verdict and its reason where they are not compared. ``what`` is the line's name.
    """

    baseline: tuple[AnyRun, ...]
    new: tuple[AnyRun, ...]
    problem: tuple[Verdict, str] | None = None
    notes: tuple[str, ...] = ()
    what: str = ""

    @property
    def record(self) -> Trained:
        """Of one of its runs, for what they have in common."""
        return (self.new or self.baseline)[0].record

    @property
    def broken(self) -> Trained | None:
        """Of the first new run that did not end well, if one did not."""
        return next((run.record for run in self.new if run.record.status != "ok"), None)


def lines(new: Mapping[Path, Trained], baseline: Mapping[Path, Trained]) -> list[Line]:
    """All lines that one side has or both have, by dataset and flow."""
    sides = each_once(baseline), each_once(new)
    subjects = sorted({_subject(run.record) for side in sides for run in side})
    return [
        line
        for subject in subjects
        for line in _named(
            [*_of_subject(*([run for run in side if _subject(run.record) == subject] for side in sides))]
        )
    ]


def _named(lines: Sequence[Line]) -> list[Line]:
    """The lines of one flow on one dataset, by their sizes and by the settings in which they differ."""
    settings = differing([line.record for line in lines])
    said = ["".join(f", {key}={value}" for key, value in own.items()) for own in settings]
    names = [f"{_model(line.record)} on {line.record.task.data}{own}" for line, own in zip(lines, said, strict=True)]
    return [replace(line, what=name) for line, name in zip(lines, names, strict=True)]


def _model(record: Trained) -> str:
    """The flow and its size; what it was trained for, where that is not the rows' density."""
    return record.model if record.kind == "run" else f"{record.kind} {record.model}"


def _subject(record: Trained) -> tuple[str, str, str]:
    return record.task.data, record.task.flow, record.kind


def _of_subject(before: Sequence[AnyRun], now: Sequence[AnyRun]) -> Iterator[Line]:
    """The lines of one flow on one dataset."""
    ignored = _ignored(before, now)
    note = (f"left aside, since one side does not know it: {', '.join(sorted(ignored))}",) if ignored else ()

    def settings(group: tuple[AnyRun, ...]) -> str:
        return configuration(group[0].record, ignored)

    def key(record: Trained) -> tuple[str, ...]:
        return configuration(record, ignored), record.task.rows_sha256.get("test", ""), record.task.data_fingerprint

    old, new = grouped(before, key), grouped(now, key)
    all_old = tuple(old)
    for only_same in (True, False):  # what fits is matched first
        for group in list(new):
            for other in old:
                reason = other_rows(other[0].record, group[0].record)
                if settings(other) == settings(group) and not (only_same and reason):
                    old.remove(other)
                    new.remove(group)
                    yield _compared(other, group, reason, note)
                    break
    for group in new:
        like_it = (other for other in all_old if settings(other) == settings(group) and _seeds(other) & _seeds(group))
        yield _unmatched(group, next(like_it, None))
    yield from (Line(group, (), ("missing", "in the baseline, but not among the new runs")) for group in old)


def _seeds(group: tuple[AnyRun, ...]) -> set[int]:
    return {run.record.setup.seed for run in group}


def _unmatched(group: tuple[AnyRun, ...], like_it: tuple[AnyRun, ...] | None) -> Line:
    """New runs that no baseline's are left for; ``like_it`` are matched ones of such a seed, of other data."""
    if like_it is not None:
        reason = other_rows(like_it[0].record, group[0].record) or "the baseline's run was matched already"
        return Line(like_it, group, ("incomparable", reason))
    return Line((), group, ("new", "not in the baseline"))


def _ignored(*sides: Sequence[AnyRun]) -> frozenset[str]:
    """The settings that one side's code did not have yet, or has no longer.

    None where, without them, two configurations of one side would be the same.
    """
    if not all(sides):
        return frozenset()
    before, now = (frozenset(key for run in side for key in run.record.setup.config) for side in sides)
    ignored = before ^ now
    for side in sides:
        whole, rest = (len({configuration(run.record, keys) for run in side}) for keys in (frozenset[str](), ignored))
        if rest < whole:
            return frozenset()
    return ignored


def _compared(before: tuple[AnyRun, ...], now: tuple[AnyRun, ...], reason: str | None, note: tuple[str, ...]) -> Line:
    """The line of two sides, if their rows can be compared: ``reason`` is why not."""
    baseline, new = _counted(before), _counted(now)
    others = [(len(before) - len(baseline), "in the baseline"), (len(now) - len(new), "among the new ones")]
    note += tuple(
        f"{plural(number, 'run')} of other code or seen twice left aside {where}" for number, where in others if number
    )
    ok = tuple(run for run in baseline if run.record.status == "ok")
    if not ok:
        statuses = ", ".join(sorted({run.record.status for run in baseline}))
        reason = f"nothing to be held against: the baseline's run is {statuses}"
    return Line(ok or baseline, new, ("incomparable", reason) if reason else None, note)


def _counted(group: tuple[AnyRun, ...]) -> tuple[AnyRun, ...]:
    """The runs of the code that ran last; of a seed that gave the same bits twice, one."""
    last = code(max(group, key=lambda run: run.record.started_at).record)
    found: dict[Hashable, AnyRun] = {}
    for run in group:
        if code(run.record) == last:
            bits = (run.record.files.test_lls or "").removeprefix(f"{run.record.run}.")  # named after its content
            told_apart = run.record.status == "ok" and bits not in ("", "npy")
            found[run.record.setup.seed, bits if told_apart else run.path] = run
    return tuple(found.values())
