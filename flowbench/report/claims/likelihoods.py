"""Which of two flows gives the test rows more: on the same data, in configurations that may be compared. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from flowbench.config import as_set
from flowbench.report.claims.findings import Claim, Finding, nats, not_measured, verdict
from flowbench.report.layout import duration
from flowbench.report.ranking.lines import LEVEL, NOT_CHOSEN, Line, paired, rows_of, unpaired
from flowbench.report.ranking.tables import Table
from flowbench.report.runs import has_rows_of
from flowbench.results.inference import Difference, holm
from flowbench.results.record import RunRecord, configuration


@dataclass(frozen=True)
class Contest:
    """One flow's line minus another's on a table's test rows, in nats; ``p``: one-sided, that the first is no worse.

    ``p`` is adjusted by Holm over the contests of a claim.
    """

    table: Table
    first: Line
    second: Line
    difference: Difference
    is_paired: bool
    p: float = 1.0

    @property
    def is_worse(self) -> bool:
        """Whether the first is worse beyond chance."""
        return self.p <= LEVEL


def as_flexible(tables: Sequence[Table], command: str) -> Claim:
    """That a MAF is no worse than a RealNVP of as many transforms, by the same recipe."""
    found = contests(
        tables, "maf", "realnvp", lambda run: (run.setup.recipe, as_set(run.setup.config.get("transforms")))
    )
    findings = [_finding(each, not each.is_worse, "") for each in found]
    return Claim(
        "RealNVP is less flexible: a MAF of as many transforms gives the same test rows as much or more",
        tuple(findings or [not_measured(f"`{command.format(flow='maf realnvp')}` measures it", "maf and realnvp")]),
    )


def unsuited(tables: Sequence[Table], command: str) -> Claim:
    """That an IAF is worse than the MAF of the same configuration."""
    found = contests(tables, "iaf", "maf", lambda run: (run.setup.recipe, configuration(run)))
    findings = [_finding(each, each.is_worse, _effort(each)) for each in found]
    return Claim(
        "IAF does not suit density estimation: it gives the same test rows less than a MAF of the same configuration",
        tuple(findings or [not_measured(f"`{command.format(flow='iaf maf')}` measures it", "iaf and maf")]),
    )


def contests(tables: Sequence[Table], first: str, second: str, key: Callable[[RunRecord], Hashable]) -> list[Contest]:
    """The best lines of both flows by validation rows for each ``key`` that both have, table by table."""
    found = [contest for table in tables for contest in _contests(table, first, second, key)]
    adjusted = holm([contest.difference.p_above(0.0) for contest in found])
    return [replace(contest, p=float(p)) for contest, p in zip(found, adjusted, strict=True)]


def _contests(table: Table, first: str, second: str, key: Callable[[RunRecord], Hashable]) -> Iterator[Contest]:
    ours, theirs = (_best(table, flow, key) for flow in (first, second))
    for what, line in ours.items():
        if what in theirs and (found := _difference(line, theirs[what])):
            yield Contest(table, line, theirs[what], *found)


def _best(table: Table, flow: str, key: Callable[[RunRecord], Hashable]) -> dict[Hashable, Line]:
    found: dict[Hashable, Line] = {}
    for line in table.lines:  # in the order of validation rows
        if line.record.task.flow == flow and line.test_ll_nats and line.mark != NOT_CHOSEN:
            found.setdefault(key(line.record), line)
    return found


def _difference(first: Line, second: Line) -> tuple[Difference, bool] | None:
    """Row by row where the rows' likelihoods are there, else of two means, each with its own error; None of neither."""
    ours, theirs = rows_of(first), rows_of(second)
    if ours and theirs and ours[0].shape == theirs[0].shape and has_rows_of(first.record, second.record):
        return paired(ours, theirs), True
    found = unpaired(first, second)
    return None if found is None else (found, False)


def _finding(contest: Contest, holds: bool, effort: str) -> Finding:
    first, second, found = contest.first, contest.second, contest.difference
    names = f"{first.record.task.flow} − {second.record.task.flow}"
    said = f"{names}: {nats(found)}{'' if contest.is_paired else ', unpaired'}{effort}"
    figures = {
        "first": first.model,
        "second": second.model,
        "data": contest.table.task.data,
        "data_fingerprint": contest.table.task.data_fingerprint,
        "difference_nats": found.mean,
        "stderr_nats": found.stderr,
        "is_paired": contest.is_paired,
        "p_holm": contest.p,
        "epochs": [_epochs(first), _epochs(second)],
        "train_seconds": [first.train_seconds, second.train_seconds],
    }
    models = first.model if effort else f"{first.model} and {second.model}"
    return Finding(f"{models} on {contest.table.name}", verdict(holds), said, figures)


def _effort(contest: Contest) -> str:
    """The epochs and the seconds of both trainings."""
    lines = contest.first, contest.second
    epochs, seconds = [_epochs(line) for line in lines], [duration(line.train_seconds) for line in lines]
    parts = [
        *([f"epochs {epochs[0]:g} and {epochs[1]:g}"] if None not in epochs else []),
        *([f"training {seconds[0]} and {seconds[1]}"] if all(seconds) else []),
    ]
    return "".join(f"; {part}" for part in parts)


def _epochs(line: Line) -> float | None:
    """The median over seeds."""
    found = [run.record.training.epochs for run in line.ended]
    there = [epochs for epochs in found if epochs is not None]
    return statistics.median(there) if there else None
