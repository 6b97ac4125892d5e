"""The record of a sweep that is to pick: what it had, and what it chose on validation rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from flowbench.console import warn
from flowbench.errors import UsageError
from flowbench.results.record import RunRecord
from flowbench.results.sweeps import Sweep, pick, write
from flowbench.sweep.conduct import State
from flowbench.sweep.spec import Job, Spec


def record_sweep(
    spec: Spec, states: Sequence[State], records: Sequence[RunRecord], folder: Path, started_at: str
) -> list[str]:
    """Write the record; the names of the runs that were chosen. Nothing is before all have ended."""
    ended = all(state.ended and state.stage != "interrupted" for state in states)
    picked = pick([*records, *_left_no_record(states, records)]) if ended else ([], [])
    there = {record.run for record in records}
    chosen, others = ([name for name in names if name in there] for names in picked)
    sweep = Sweep(
        name=f"sweep-{hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:8]}",
        started_at=started_at,
        ordered=spec.model_dump(mode="json"),
        runs=sorted(there),
        chosen=chosen,
        not_chosen=others,
    )
    try:
        write(sweep, folder)
    except UsageError as error:
        warn(f"what was chosen is not kept: {error}")
    return chosen


def _left_no_record(states: Sequence[State], records: Sequence[RunRecord]) -> list[RunRecord]:
    """A failed record for each run that failed before it had one, or whose process died.

    Its configuration is not whole then. It is a copy of another seed's: without one there is nothing to be chosen.
    """
    by_name = {record.run: record for record in records}
    sibling = {_configuration(state.job): by_name[state.run] for state in states if state.run in by_name}
    return [
        sibling[_configuration(state.job)].model_copy(update={"run": state.job.label, "status": "failed"})
        for state in states
        if state.run not in by_name and _configuration(state.job) in sibling
    ]


def _configuration(job: Job) -> tuple[str, str, str]:
    return job.order.flow, job.order.data, job.settings
