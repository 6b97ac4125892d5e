"""The runs of a folder as reports need them: chosen, each once, and the seeds of a configuration together. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic

from typing_extensions import TypeVar

from flowbench.console import warn_once
from flowbench.results.documents import UnreadableRecordError
from flowbench.results.inference import Lls
from flowbench.results.record import RunRecord, Trained
from flowbench.results.store import read_test_lls

SPLITS = ("test", "validation", "train")


R = TypeVar("R", bound=Trained, default=RunRecord, covariant=True)
S = TypeVar("S", bound=Trained)


@dataclass(frozen=True)
class Run(Generic[R]):
    """A record and the file that it was read from: that of a run by maximum likelihood, where nothing else is said."""

    path: Path
    record: R

    @property
    def nats(self) -> float | None:
        """The mean test log-likelihood, or what else was measured; None where there is none that can be trusted."""
        test = self.record.measured
        return test.mean if test and self.record.status == "ok" else None

    @cached_property
    def test_lls(self) -> Lls | None:
        """The log-likelihood of each test row (N,); None, with a warning, where the file is damaged."""
        try:
            return read_test_lls(self.record, self.path.parent)
        except UnreadableRecordError as error:
            warn_once(f"rows cannot be paired: {error}")
            return None


def code(record: Trained) -> str:
    """What tells the code of two runs apart."""
    return record.environment.code_digest or record.environment.git_revision or ""


def reason(record: Trained) -> str:
    """Why a run did not end well, in a line."""
    return (record.error or "no reason was recorded").strip().partition("\n")[0]


def target_of(data: str) -> str:
    """The target's name, of that of its noise."""
    return data.removeprefix("target-")


def names_of(record: Trained) -> set[str]:
    """What a run's data may be asked for by: its name, that of the pictures or the target behind it, of all its rows.

    A posterior's pictures were binarised, a fit's rows are the noise of its target.
    """
    name = record.task.data
    source = {"posterior": name.removesuffix("-binarised"), "target": target_of(name)}.get(record.kind, name)
    return {name, source, source.partition("~")[0]}


def is_of(record: Trained, data: str | None = None, flow: str | None = None) -> bool:
    """Whether a run is of this dataset, by any of its names, and of this flow; None is every one."""
    return (data is None or data in names_of(record)) and flow in (None, record.task.flow)


def each_once(records: Mapping[Path, S]) -> list[Run[S]]:
    """The runs, each once: of the same run found twice the later, but an interrupted one only if there is no other.

    The same are two whose configuration, data, code, seed and machine are the same.
    """
    found: dict[Hashable, Run[S]] = {}
    for path, record in records.items():
        key = (
            record.kind,
            record.setup.config_hash,
            record.setup.seed,
            record.task.data,
            code(record),
            record.environment.device_name,
        )
        there = found.get(key)
        if there is None or _rank(record) > _rank(there.record):
            found[key] = Run(path, record)
    return list(found.values())


def distinct(records: Mapping[Path, RunRecord]) -> dict[Path, RunRecord]:
    """The records, each under a name of its own: runs of two machines may have one, in two folders."""
    seen: Counter[str] = Counter()
    found = {}
    for path, record in records.items():
        seen[record.run] += 1
        again = seen[record.run]
        found[path] = record if again == 1 else record.model_copy(update={"run": f"{record.run} ({again})"})
    return found


def _rank(record: Trained) -> tuple[bool, str]:
    return record.status != "interrupted", record.started_at


def grouped(runs: Iterable[Run[S]], key: Callable[[S], Hashable]) -> list[tuple[Run[S], ...]]:
    """The runs with one key together, by seed, in the order of the first of each."""
    found: dict[Hashable, list[Run[S]]] = {}
    for run in runs:
        found.setdefault(key(run.record), []).append(run)
    return [tuple(sorted(group, key=lambda run: run.record.setup.seed)) for group in found.values()]


def has_rows_of(a: Trained, b: Trained) -> bool:
    """Whether both were tested on the same rows."""
    return other_rows(a, b, ("test",)) is None


def other_rows(before: Trained, now: Trained, splits: Sequence[str] = SPLITS) -> str | None:
    """Why two runs' likelihoods are not of the same rows, None if they are.

    The rows' digests tell it, whatever made them; where an old record has none, the data's fingerprint.
    """
    old, new = before.task, now.task
    if old.space != new.space:
        return f"other space: {old.space} before, {new.space} now"
    for split in splits:
        rows = getattr(old, f"n_{split}"), getattr(new, f"n_{split}")
        digests = old.rows_sha256.get(split), new.rows_sha256.get(split)
        if rows[0] != rows[1]:
            return f"other {split} rows: {rows[0]:,} before, {rows[1]:,} now"
        if None in digests:
            data = (old.data_version, old.data_fingerprint[:8]), (new.data_version, new.data_fingerprint[:8])
            if data[0] != data[1]:
                return "other data: version {} of {} before, version {} of {} now".format(*data[0], *data[1])
        elif digests[0] != digests[1]:
            return f"other {split} rows: {rows[0]:,} before and now, but not the same"
    return None


def test_lls(runs: Iterable[Run[Trained]]) -> list[Lls] | None:
    """The rows' likelihoods (N,) of each run; None where they are not all there, of one length."""
    found = [run.test_lls for run in runs]
    there = [lls for lls in found if lls is not None]
    return there if len(there) == len(found) and len({lls.shape for lls in there}) == 1 else None
