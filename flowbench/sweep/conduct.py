"""A sweep under way: which runs wait, run, have ended and are to be tried again, whoever carries them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from flowbench.sweep.spec import Job
from flowbench.sweep.work import Begun, Done, Told

TRIES = 3
"""Of a run whose process or machine dies."""

HELD_SECONDS = 2.0
"""Before a run is looked at again that another process is at."""

LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Lost:
    """A run's process or machine died, and the run did not end."""

    why: str


Event = Begun | Told | Done | Lost

Stage = Literal["waiting", "starting", "running", "elsewhere", "ok", "finished", "diverged", "failed", "interrupted"]


@dataclass
class State:
    """Where a run of the sweep is."""

    job: Job
    stage: Stage = "waiting"
    told: Told | None = None
    run: str | None = None
    error: str | None = None
    retried: int = 0
    began: float | None = None
    seconds: float = 0.0
    not_before: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come of it."""
        return self.stage not in ("waiting", "starting", "running", "elsewhere")


class Workers(Protocol):
    """Who carries out runs: `local.Local`, or a cluster."""

    @property
    def free(self) -> int:
        """Runs that can be started now."""
        ...

    def start(self, job: Job) -> None:
        """Begin a run."""
        ...

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        """What has happened, after so many seconds at the most."""
        ...

    def stop(self) -> None:
        """End all; runs that are under way are saved where they can be."""
        ...


def conduct(
    jobs: Sequence[Job],
    workers: Workers,
    show: Callable[[Sequence[State], State | None], None],
    deadline: float | None = None,
) -> list[State]:
    """Carry out all jobs; what became of each.

    ``show`` is called with all states and the one that has begun or ended, and with None every so often. After
    ``deadline`` (of `time.monotonic`), and at an interrupt, what runs is stopped and saved.
    """
    states = [State(job) for job in jobs]
    by_number = {state.job.number: state for state in states}
    try:
        while not all(state.ended for state in states):
            if deadline is not None and time.monotonic() > deadline:
                break
            for state in _startable(states, workers.free):
                workers.start(state.job)
                state.stage, state.told, state.error = "starting", None, None
            for job, event in workers.events(LOOK_SECONDS):
                state = by_number[job.number]
                if _take(state, event):
                    show(states, state)
            show(states, None)
    finally:
        workers.stop()
        for state in states:
            if state.stage in ("starting", "running"):
                state.stage = "interrupted"
    return states


def _startable(states: Sequence[State], free: int) -> list[State]:
    now = time.monotonic()
    waiting = [state for state in states if state.stage in ("waiting", "elsewhere") and state.not_before <= now]
    return sorted(waiting, key=lambda state: state.not_before)[:free]


def _take(state: State, event: Event) -> bool:
    """Take note of an event; whether the run has begun, ended, or is to begin anew."""
    if isinstance(event, Begun):
        state.stage, state.began = "running", time.monotonic()
        return True
    if isinstance(event, Told):
        state.told = event
        return False
    if state.began is not None:
        state.seconds += time.monotonic() - state.began
        state.began = None
    if isinstance(event, Lost):
        state.retried += 1
        state.error = event.why
        state.stage = "waiting" if state.retried < TRIES else "failed"
    elif event.ending == "held":
        state.stage, state.error = "elsewhere", event.error
        state.not_before = time.monotonic() + HELD_SECONDS
    elif event.ending == "interrupted":  # its process was asked to stop, not the sweep
        state.retried += 1
        state.stage = "waiting" if state.retried < TRIES else "interrupted"
    else:
        state.stage, state.run, state.error = event.ending, event.run, event.error
    return True
