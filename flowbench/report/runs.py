"""The runs of a folder as reports need them: chosen, each once, and the seeds of a configuration together. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.console import warn
from flowbench.results.record import RunRecord
from flowbench.results.store import UnreadableRecordError, read_test_lls

Lls = NDArray[np.float64]

_CANONICAL = json.JSONEncoder(sort_keys=True).encode


@dataclass(frozen=True)
class Run:
    """A record and the file that it was read from."""

    path: Path
    record: RunRecord

    @property
    def nats(self) -> float | None:
        """The mean test log-likelihood; None where there is none that can be trusted."""
        test = self.record.likelihoods.test_ll_nats
        return test.mean if test and self.record.status == "ok" else None

    @cached_property
    def test_lls(self) -> Lls | None:
        """The log-likelihood of each test row (N,); None, with a warning, where the file is damaged."""
        try:
            return read_test_lls(self.record, self.path.parent)
        except UnreadableRecordError as error:
            warn(f"rows cannot be paired: {error}")
            return None


def code(record: RunRecord) -> str:
    """What tells the code of two runs apart."""
    return record.environment.code_digest or record.environment.git_revision or ""


def configuration(record: RunRecord) -> str:
    """Every setting of flow and training: all that decides a run's numbers but its seed and its machine."""
    return _CANONICAL(record.setup.config)


def is_of(record: RunRecord, data: str | None = None, flow: str | None = None) -> bool:
    """Whether a run is of this dataset, partial or not, and of this flow; None is every one."""
    name = record.task.data
    return data in (None, name, name.partition("~")[0]) and flow in (None, record.task.flow)


def each_once(records: Mapping[Path, RunRecord]) -> list[Run]:
    """The runs, each once: of the same run found twice the later, but an interrupted one only if there is no other.

    The same are two whose configuration, data, code, seed and machine are the same.
    """
    found: dict[Hashable, Run] = {}
    for path, record in records.items():
        key = (
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


def _rank(record: RunRecord) -> tuple[bool, str]:
    return record.status != "interrupted", record.started_at


def grouped(runs: Iterable[Run], key: Callable[[RunRecord], Hashable]) -> list[tuple[Run, ...]]:
    """The runs with one key together, by seed, in the order of the first of each."""
    found: dict[Hashable, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run.record), []).append(run)
    return [tuple(sorted(group, key=lambda run: run.record.setup.seed)) for group in found.values()]


def has_rows_of(a: RunRecord, b: RunRecord) -> bool:
    """Whether both were tested on the same rows: by the rows' digest or, where an old record has none, the data's."""
    one, other = (record.task.rows_sha256.get("test") for record in (a, b))
    if one is not None and other is not None:
        return one == other
    return (a.task.data_fingerprint, a.task.data_version, a.task.n_test) == (
        b.task.data_fingerprint, b.task.data_version, b.task.n_test
    )  # fmt: skip


def test_lls(runs: Iterable[Run]) -> list[Lls] | None:
    """The rows' likelihoods (N,) of each run; None where they are not all there, of one length."""
    found = [run.test_lls for run in runs]
    there = [lls for lls in found if lls is not None]
    return there if len(there) == len(found) and len({lls.shape for lls in there}) == 1 else None
