"""The baseline: a folder of records, with the rows' likelihoods beside them, small enough to be kept in git."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from flowbench.console import plural
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.report.gate.findings import Finding
from flowbench.report.gate.likelihoods import findings
from flowbench.report.gate.lines import Line, lines
from flowbench.report.runs import is_of
from flowbench.results.record import Files, RunRecord
from flowbench.results.store import UnreadableRecordError, read_all, read_test_lls, write


class Comparison:
    """New runs and a baseline, read from two folders; only those of ``data`` and ``flow``, where these are given.

    Raises:
        UsageError: both are one folder.
        NothingToCompareError: neither has anything in it.
    """

    def __init__(self, new: Path, baseline: Path, data: str | None = None, flow: str | None = None) -> None:
        if new.resolve() == baseline.resolve():
            raise UsageError(f"{new} would be held against itself", "give another folder to --against")
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

    def _read(self, folder: Path) -> Mapping[Path, RunRecord]:
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

    def accept(self) -> tuple[list[str], list[str]]:
        """Put the new runs in the place of the baseline's, without their weights.

        Returns what was taken, and what was not because a run of it did not end well. What has no new run stays. The
        new records are written before the old ones go.
        """
        taken, left = [], []
        for line in self.lines:
            if not line.new:
                continue
            if any(run.record.status != "ok" for run in line.new):
                left.append(line.what)
                continue
            written = {_write(run.record, run.path.parent, self._folder) for run in line.new}
            for path in self._replaced(line) - written:
                _remove(path, self._baseline[path])
            taken.append(line.what)
        return taken, left

    def _replaced(self, line: Line) -> set[Path]:
        """The baseline's records of a line, those of earlier revisions too."""
        configs = [run.record.setup.config for run in (*line.baseline, *line.new)]
        task = line.record.task
        return {
            path
            for path, record in self._baseline.items()
            if (record.task.flow, record.task.data) == (task.flow, task.data) and record.setup.config in configs
        }


def _write(record: RunRecord, folder: Path, baseline: Path) -> Path:
    return write(record.model_copy(update={"files": Files()}), baseline, read_test_lls(record, folder))


def _remove(path: Path, record: RunRecord) -> None:
    path.unlink(missing_ok=True)  # first: no record is left without its rows
    if record.files.test_lls is not None:
        (path.parent / record.files.test_lls).unlink(missing_ok=True)


def _revisions(records: Iterable[RunRecord]) -> str:
    """By what code the runs are; more than three codes are counted."""
    environments = [record.environment for record in records]
    found = dict.fromkeys(
        where.git_revision or f"flowbench {where.versions.get('flowbench', '?')}" for where in environments
    )
    return ", ".join(found) if len(found) <= 3 else plural(len(found), "revision")
