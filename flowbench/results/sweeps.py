"""Sweeps in files: which runs each had, and which configuration it chose on validation rows. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from flowbench.files import write_together
from flowbench.results import store
from flowbench.results.documents import UnreadableRecordError, known, parsed
from flowbench.results.fields import Count, FileName, Settings
from flowbench.results.record import SCHEMA_VERSION, Part, RunRecord, configuration


class Sweep(Part):
    """A sweep as it was ``ordered``, the names of all its ``runs``, and of those that it chose and did not choose.

    A run is in neither list where there was nothing to choose from: none of its flow on its data ended well.
    ``started_at`` is ISO 8601 in UTC.
    """

    schema_version: Count = SCHEMA_VERSION
    kind: Literal["sweep"] = "sweep"
    name: FileName
    started_at: str
    ordered: Settings
    runs: list[str]
    chosen: list[str] = Field(default_factory=list)
    not_chosen: list[str] = Field(default_factory=list)


def write(sweep: Sweep, folder: Path) -> Path:
    """Write ``<folder>/<sweep.name>.json``, in the place of what is there, and return its path.

    Raises:
        UsageError: it cannot be written.
        UnreadableRecordError: a newer flowbench's file would be replaced.
    """
    path = folder / f"{sweep.name}.json"
    store.refuse_newer(path)
    write_together({path: store.strict_json(sweep)})
    return path


def read_all(folder: Path) -> list[Sweep]:
    """All sweeps under ``folder``, subfolders too, in the order of their paths; what is damaged is warned of."""
    return with_runs(folder)[1]


def with_runs(
    folder: Path,
    on_other: Callable[[Path, dict[str, Any]], None] = lambda _, found: None,
    on_damage: Callable[[Path, UnreadableRecordError], None] = store.warn_of,
) -> tuple[dict[Path, RunRecord], list[Sweep]]:
    """The records of all runs under ``folder``, as ``store.read_all`` has them, and all sweeps; each file read once.

    Records of other kinds go to ``on_other``, which passes over them, and what is damaged to ``on_damage``.
    """
    sweeps: list[Sweep] = []

    def keep(path: Path, found: dict[str, Any]) -> None:
        if found.get("kind") == "sweep":
            sweeps.append(parsed(path, known(path, found), Sweep, lambda old: old))
        else:
            on_other(path, found)

    return store.read_all(folder, on_damage, keep), sweeps


def passed_over(sweeps: Iterable[Sweep]) -> frozenset[str]:
    """The names of the runs that some sweep did not choose, and that no sweep chose."""
    sweeps = list(sweeps)
    chosen = {run for sweep in sweeps for run in sweep.chosen}
    return frozenset(run for sweep in sweeps for run in sweep.not_chosen) - chosen


def pick(records: Iterable[RunRecord]) -> tuple[list[str], list[str]]:
    """The names of the runs whose configuration is the best of its flow on its data, and of those where it is not.

    The best has the highest mean validation log-likelihood over its seeds that ended well. A mean of fewer seeds counts
    as much as one of more: an interrupted seed is like one that was never begun. But a configuration of which a seed
    diverged or failed (or ended without a validation likelihood) is chosen only where there is no other. Of equal means
    the one over more seeds is taken, then the first in the order of the settings, written out. All runs of a
    configuration go the same way, however they ended; where no run of a flow on its data ended well, none is named.
    Both lists are sorted, and do not depend on the order of ``records``.
    """
    groups: dict[Hashable, dict[str, list[RunRecord]]] = {}
    for record in records:
        groups.setdefault(_data(record), {}).setdefault(configuration(record), []).append(record)
    chosen: list[str] = []
    others: list[str] = []
    for group in groups.values():
        best = _best(group)
        for name, seeds in group.items() if best is not None else ():
            (chosen if name == best else others).extend(record.run for record in seeds)
    return sorted(chosen), sorted(others)


def _data(record: RunRecord) -> Hashable:
    """What is the same for likelihoods that may be held against each other: the flow, and the rows."""
    task = record.task
    rows = tuple(sorted(task.rows_sha256.items()))
    return task.flow, task.data, task.data_version, task.data_fingerprint, task.space, rows


def _best(group: Mapping[str, Sequence[RunRecord]]) -> str | None:
    """Of configurations with their seeds the best one, None where no seed of any ended well."""
    ranked = []
    for name, seeds in group.items():
        found = [record.likelihoods.validation_ll_nats if record.status == "ok" else None for record in seeds]
        nats = [each for each in found if each is not None]
        broken = sum(record.status != "interrupted" for record in seeds) > len(nats)
        if nats:
            ranked.append((broken, -math.fsum(nats) / len(nats), -len(nats), name))
    return min(ranked)[-1] if ranked else None
