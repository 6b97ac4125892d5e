"""A sweep under way: which runs wait, run, have ended and are to be tried again, whoever carries them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from flowbench.console import note
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

    @property
    def slots(self) -> int:
        """Runs at a time."""
        ...

    def start(self, job: Job, retried: bool = False) -> None:
        """Begin a run; one that is ``retried`` is gone on with where it can be."""
        ...

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        """What has happened, after so many seconds at the most."""
        ...

    def stop(self) -> None:
        """End all runs that are under way; what they have is saved where it can be."""
        ...

    def close(self) -> None:
        """End."""
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
        while not all(state.ended for state in states) and (deadline is None or time.monotonic() < deadline):
            _start(states, workers)
            for job, event in workers.events(LOOK_SECONDS):
                state = by_number[job.number]
                if _take(state, event):
                    show(states, state)
            show(states, None)
        workers.stop()
        for job, event in workers.events(0.0):
            if isinstance(event, Done) and event.ending != "interrupted":  # it came to its end in that moment
                _take(by_number[job.number], event)
    except KeyboardInterrupt:
        workers.stop()
        note("the same command does what is missing, and goes on with what was broken off")
        raise
    finally:
        workers.close()
    for state in states:
        state.stage = "interrupted" if state.stage in ("starting", "running") else state.stage
    return states


def _start(states: Sequence[State], workers: Workers) -> None:
    """Give those who are free what waits longest."""
    now = time.monotonic()
    waiting = [state for state in states if state.stage in ("waiting", "elsewhere") and state.not_before <= now]
    for state in sorted(waiting, key=lambda state: state.not_before)[: workers.free]:
        workers.start(state.job, state.retried > 0)
        state.stage, state.told, state.error = "starting", None, None


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
