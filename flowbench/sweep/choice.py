"""The record of a sweep, and what it chose on validation rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flowbench.results.record import RunRecord
from flowbench.results.sweeps import Sweep, pick, write
from flowbench.sweep.conduct import State
from flowbench.sweep.spec import Spec


def record_sweep(spec: Spec, states: Sequence[State], records: Sequence[RunRecord], folder: Path) -> Sweep:
    """Write what a sweep had and, where it is to pick, what it chose; nothing is chosen before all runs have ended.

    Raises:
        UsageError: it cannot be written.
    """
    ended = all(state.ended and state.stage != "interrupted" for state in states)
    chosen, others = pick(records) if spec.pick and ended else ([], [])
    sweep = Sweep(
        name=f"sweep-{hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:8]}",
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ordered=spec.model_dump(mode="json"),
        runs=sorted(record.run for record in records),
        chosen=chosen,
        not_chosen=others,
    )
    write(sweep, folder)
    return sweep
