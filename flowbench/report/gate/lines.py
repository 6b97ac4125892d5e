"""Which runs are held against which: a line is a flow on a dataset in one configuration, its seeds on two sides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowbench.console import plural
from flowbench.report.gate.findings import Verdict
from flowbench.report.runs import Run, code, each_once, grouped
from flowbench.report.settings import differing
from flowbench.results.record import RunRecord

Key = tuple[str, str]
"""The settings that both sides know, and the data's fingerprint."""


@dataclass(frozen=True)
class Line:
    """The seeds of one configuration on two sides.

    ``problem`` is a verdict and its reason where they are not compared. ``what`` is the line's name.
    """

    baseline: tuple[Run, ...]
    new: tuple[Run, ...]
    problem: tuple[Verdict, str] | None = None
    note: str = ""
    what: str = ""

    @property
    def record(self) -> RunRecord:
        """Of one of its runs, for what they have in common."""
        return (self.new or self.baseline)[0].record


def lines(new: Mapping[Path, RunRecord], baseline: Mapping[Path, RunRecord]) -> list[Line]:
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
    names = [f"{line.record.model} on {line.record.task.data}{own}" for line, own in zip(lines, said, strict=True)]
    return [replace(line, what=name) for line, name in zip(lines, names, strict=True)]


def _subject(record: RunRecord) -> tuple[str, str]:
    return record.task.data, record.task.flow


def _of_subject(before: Sequence[Run], now: Sequence[Run]) -> Iterator[Line]:
    """The lines of one flow on one dataset."""
    ignored = _ignored(before, now)
    note = f"left aside, since one side does not know it: {', '.join(sorted(ignored))}" if ignored else ""

    def key(record: RunRecord) -> Key:
        return _settings(record, ignored), record.task.data_fingerprint

    old, new = ({key(group[0].record): group for group in grouped(side, key)} for side in (before, now))
    for both in sorted(old.keys() & new.keys()):
        yield _compared(_newest_code(old.pop(both)), _newest_code(new.pop(both)), note)
    for settings, fingerprint in list(new):
        other = next((found for found in old if found[0] == settings), None)
        group = new[settings, fingerprint]
        if other is None:
            yield Line(
                (), group, None if any(run.record.status != "ok" for run in group) else ("new", "not in the baseline")
            )
        else:
            reason = f"other data: fingerprint {other[1][:8]} in the baseline, {fingerprint[:8]} now"
            yield Line(old.pop(other), group, ("incomparable", reason))
    yield from (Line(group, (), ("missing", "in the baseline, but not among the new runs")) for group in old.values())


def _ignored(*sides: Sequence[Run]) -> frozenset[str]:
    """The settings that one side's code did not have yet, or has no longer.

    None where, without them, two configurations of one side would be the same.
    """
    if not all(sides):
        return frozenset()
    before, now = (frozenset(key for run in side for key in run.record.setup.config) for side in sides)
    ignored = before ^ now
    for side in sides:
        whole, rest = (len({_settings(run.record, keys) for run in side}) for keys in (frozenset[str](), ignored))
        if rest < whole:
            return frozenset()
    return ignored


def _settings(record: RunRecord, ignored: Iterable[str]) -> str:
    return json.dumps({k: v for k, v in record.setup.config.items() if k not in ignored}, sort_keys=True)


def _newest_code(group: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs of the code that ran last."""
    last = code(max(group, key=lambda run: run.record.started_at).record)
    return tuple(run for run in group if code(run.record) == last)


def _compared(before: tuple[Run, ...], now: tuple[Run, ...], note: str) -> Line:
    """The line of two sides, if their rows can be compared."""
    ok = tuple(run for run in before if run.record.status == "ok")
    if not ok:
        statuses = ", ".join(sorted({run.record.status for run in before}))
        return Line(before, now, ("incomparable", f"nothing to be held against: the baseline's run is {statuses}"))
    reason = next((found for run in (*ok, *now) if (found := _other_rows(ok[0].record, run.record))), None)
    return Line(ok, now, ("incomparable", reason) if reason else None, note)


def _other_rows(before: RunRecord, now: RunRecord) -> str | None:
    """Why two runs' likelihoods are not of one thing; None if they are."""
    old, new = before.task, now.task
    if old.space != new.space:
        return f"other space: {old.space} in the baseline, {new.space} now"
    for split in ("test", "validation", "train"):
        rows = getattr(old, f"n_{split}"), getattr(new, f"n_{split}")
        digests = old.rows_sha256.get(split), new.rows_sha256.get(split)
        if rows[0] != rows[1]:
            return f"other {split} rows: {rows[0]:,} in the baseline, {rows[1]:,} now"
        if None not in digests and digests[0] != digests[1]:
            return f"other {split} rows: as many as in the baseline ({plural(rows[0], 'row')}), but not the same"
    return None
