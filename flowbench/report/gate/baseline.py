"""The baseline: a folder of records, with the rows' likelihoods beside them, small enough to be kept in git."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from flowbench.console import plural
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.report.gate.findings import Finding
from flowbench.report.gate.likelihoods import findings, rows_of
from flowbench.report.gate.lines import Line, lines
from flowbench.report.runs import is_of
from flowbench.results.documents import UnreadableRecordError
from flowbench.results.inference import Lls
from flowbench.results.record import Files, Trained
from flowbench.results.store import remove, write
from flowbench.results.trainings import read_all


class Comparison:
    """New runs and a baseline, read from two folders; only those of ``data`` and ``flow``, where these are given.

    Raises:
        UsageError: one folder is the other, or in it.
        NothingToCompareError: neither has anything in it.
    """

    def __init__(self, new: Path, baseline: Path, data: str | None = None, flow: str | None = None) -> None:
        places = new.resolve(), baseline.resolve()
        if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
            raise UsageError(
                f"{new} and {baseline} are one folder, or one is in the other: a run would be held against itself",
                "name the folder of the new runs alone, and another one with --against",
            )
        self._folder = baseline
        self._damaged: list[Finding] = []
        self._baseline, self._new = (
            {path: record for path, record in self._read(folder).items() if is_of(record, data, flow)}
            for folder in (baseline, new)
        )
        if not (self._new or self._baseline or self._damaged):
            raise NothingToCompareError(
                f"no results were found in {new} or {baseline}", "run `flowbench train maf --out NEW` first"
            )
        self.lines = lines(self._new, self._baseline)

    def _read(self, folder: Path) -> Mapping[Path, Trained]:
        def damaged(path: Path, error: UnreadableRecordError) -> None:
            self._damaged.append(Finding(path.stem, "damaged", notes=(str(error),)))

        return read_all(folder, damaged)

    def findings(self, max_nats: float) -> list[Finding]:
        """A verdict on each line, and one on each file that cannot be read."""
        return [*findings(self.lines, max_nats), *self._damaged]

    @property
    def title(self) -> str:
        """What is held against what, by revision."""
        new, baseline = (_revisions(side.values()) or "nothing" for side in (self._new, self._baseline))
        return f"{new} against {baseline}"

    def accept(self) -> tuple[list[str], list[Finding]]:
        """Put the new runs in the place of the baseline's, without their weights.

        Returns what was taken, and what was not, with the reason. What has no new run stays. Everything is read before
        anything is written, and the new records are written before the old ones go.
        """
        taken, left = list[str](), list(self._damaged)
        accepted: list[tuple[Line, list[Lls]]] = []
        for line in self.lines:
            rows = _acceptable(line) if line.new else None
            if isinstance(rows, Finding):
                left.append(rows)
            elif rows is not None:
                accepted.append((line, rows))
                taken.append(line.what)
        names: set[str] = set()
        for line, rows in accepted:
            written = {self._write(run.record, lls, names) for run, lls in zip(line.new, rows, strict=True)}
            for path in self._replaced(line) - written:
                remove(path)
        return taken, left

    def _write(self, record: Trained, lls: Lls, names: set[str]) -> Path:
        """Write a run under a name that no other one is written under: on two machines a seed's runs have one name."""
        name = next(name for number in count(1) if (name := record.run + f"-{number}" * (number > 1)) not in names)
        names.add(name)
        return write(record.model_copy(update={"files": Files(), "run": name}), self._folder, lls)

    def _replaced(self, line: Line) -> set[Path]:
        """The baseline's records of a line, those of earlier revisions too."""
        configs = [run.record.setup.config for run in (*line.baseline, *line.new)]
        task = line.record.task
        return {
            path
            for path, record in self._baseline.items()
            if (record.task.flow, record.task.data) == (task.flow, task.data) and record.setup.config in configs
        }


def _acceptable(line: Line) -> list[Lls] | Finding:
    """The rows of the line's new runs, or why they are not taken."""
    broken = line.broken
    if broken is not None and broken.status != "ok":
        return Finding(line.what, broken.status, notes=(f"seed {broken.setup.seed} {broken.status}",))
    try:
        rows = rows_of(line.new)
    except UnreadableRecordError as error:
        return Finding(line.what, "damaged", notes=(str(error),))
    return rows or Finding(line.what, "damaged", notes=("there is no file of the rows' likelihoods",))


def _revisions(records: Iterable[Trained]) -> str:
    """By what code the runs are; more than three codes are counted."""
    environments = [record.environment for record in records]
    found = dict.fromkeys(
        where.git_revision or f"flowbench {where.versions.get('flowbench', '?')}" for where in environments
    )
    return ", ".join(found) if len(found) <= 3 else plural(len(found), "revision")
