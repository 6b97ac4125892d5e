"""The runs of a sweep side by side on this machine: a process for each slot, which takes one run after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from flowbench.sweep.conduct import Event, Lost
from flowbench.sweep.spec import Job
from flowbench.sweep.work import Begun, Done, Told, prepare, work
from flowbench.training.order import How

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share torch's threads and locks

GRACE_SECONDS = 10.0
"""In which a worker that is stopped saves what it has."""

_tell_to: Connection | None = None


@dataclass(frozen=True)
class Share:
    """What each slot has of the machine: threads, bytes of memory (None: no bound), and variables of its own."""

    threads: int
    memory: int | None
    surroundings: tuple[dict[str, str], ...]

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return len(self.surroundings)


class Local:
    """Workers on this machine.

    A worker that dies takes its run with it and nothing else: a standard library pool of one process is a slot.
    """

    def __init__(self, share: Share, folder: Path, logs: Path, how: How) -> None:
        self._share, self._folder, self._logs, self._how = share, folder, logs, how
        self._slots: list[_Slot | None] = [None] * share.slots

    @property
    def free(self) -> int:
        """Runs that can be started now."""
        return sum(slot is None or slot.job is None for slot in self._slots)

    def start(self, job: Job) -> None:
        """Begin a run in a free slot."""
        index = next(i for i, slot in enumerate(self._slots) if slot is None or slot.job is None)
        slot = self._slots[index] or _Slot(self._share, index)
        self._slots[index] = slot
        slot.start(job, self._folder, self._logs / f"{job.label}.log", self._how)

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        """What has happened, after so many seconds at the most."""
        busy = [slot for slot in self._slots if slot is not None and slot.job is not None]
        until = time.monotonic() + seconds
        while not any(slot.future.done() for slot in busy):
            ready = wait([slot.told for slot in busy], timeout=min(0.05, max(0.0, until - time.monotonic())))
            if ready or time.monotonic() >= until:
                break
        for slot in busy:
            job = slot.job
            assert job is not None
            yield from ((job, told) for told in slot.heard())
            if slot.future.done():
                slot.job = None
                yield job, self._ended(slot)

    def _ended(self, slot: _Slot) -> Event:
        try:
            return slot.future.result()
        except BrokenProcessPool:
            self._slots[self._slots.index(slot)] = None
            slot.close()
            return Lost("its process died")
        except KeyboardInterrupt:
            return Done("interrupted")
        except Exception as error:  # what could not be sent back
            return Done("failed", error=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """End all workers; runs that are under way are saved."""
        slots = [slot for slot in self._slots if slot is not None]
        for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 1.0)):
            alive = [slot for slot in slots if slot.signal(number)]
            until = time.monotonic() + seconds
            while any(not slot.future.done() for slot in alive) and time.monotonic() < until:
                time.sleep(0.05)
        for slot in slots:
            slot.close()
        self._slots = [None] * len(self._slots)


class _Slot:
    """One worker's process, and the run that it is at."""

    def __init__(self, share: Share, index: int) -> None:
        self.told, telling = _SPAWN.Pipe(duplex=False)
        arguments = (telling, share.threads, share.memory, share.surroundings[index], os.getpid())
        self._pool = ProcessPoolExecutor(1, mp_context=_SPAWN, initializer=_begin, initargs=arguments)
        self._telling = telling
        self.job: Job | None = None
        self.future: Future[Done]

    def start(self, job: Job, folder: Path, log: Path, how: How) -> None:
        self.job = job
        self.future = self._pool.submit(_work, job, folder, log, how)

    def heard(self) -> Iterator[Begun | Told]:
        with suppress(EOFError, OSError):
            while self.told.poll():
                yield self.told.recv()

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to the process, if it is at a run."""
        if self.job is None or self.future.done():
            return False
        for process in list((self._pool._processes or {}).values()):
            with suppress(OSError):
                os.kill(process.pid or 0, number)
        return True

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self.told.close()
        self._telling.close()


def _begin(telling: Connection, *share: object) -> None:
    global _tell_to
    _tell_to = telling
    prepare(*share)  # type: ignore[arg-type]


def _work(job: Job, folder: Path, log: Path, how: How) -> Done:
    assert _tell_to is not None
    return work(job, folder, log, _tell_to.send, how)


def shares(jobs: int, at_once: int | None, threads: int | None, gpus: int, memory: int | None) -> Share:
    """How this machine is divided among so many jobs.

    On GPUs one run a GPU; else so many runs ``at_once``, or as many as there are processors for their ``threads`` and
    memory for what each needs (``memory`` bytes; None: each gets its part of what is free).
    """
    from flowbench.timing.memory import available_bytes

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = available_bytes()
    slots = at_once or gpus or max(1, cores // (threads or 1))
    if not at_once and memory is not None and free is not None:
        slots = max(1, min(slots, free // memory))
    slots = min(slots, jobs)
    threads = threads or max(1, cores // slots)
    each = None if gpus else memory if memory is not None else None if free is None else int(0.9 * free / slots)
    surroundings = tuple({"CUDA_VISIBLE_DEVICES": str(i % gpus)} if gpus else {} for i in range(slots))
    return Share(threads, each, surroundings)
