"""The runs of a sweep side by side on this machine: a process for each slot, which takes one run after the other."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
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
    """What each slot has of the machine: threads, bytes of memory (None: no bound), and environment variables."""

    threads: int
    memory: int | None
    variables: tuple[dict[str, str], ...]

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return len(self.variables)


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

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return self._share.slots

    def start(self, job: Job, retried: bool = False) -> None:
        """Begin a run in a free slot."""
        index = next(i for i, slot in enumerate(self._slots) if slot is None or slot.job is None)
        how = replace(self._how, restart=False) if retried else self._how  # it is gone on with
        for _ in range(2):
            slot = self._slots[index] or _Slot(self._share, index)
            self._slots[index] = slot
            try:
                return slot.start(job, self._folder, self._logs / job.log, how)
            except BrokenProcessPool:  # it died while it had nothing to do
                self._drop(slot)

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        """What has happened, after so many seconds at the most."""
        busy = [slot for slot in self._slots if slot is not None and slot.job is not None]
        until = time.monotonic() + seconds
        while not any(slot.future.done() for slot in busy):
            ready = wait([slot.told for slot in busy], timeout=min(0.05, max(0.0, until - time.monotonic())))
            if ready or time.monotonic() >= until:
                break
        for slot in busy:
            job, over = slot.job, slot.future.done()  # asked first: what is told before the end is heard before it
            assert job is not None
            yield from ((job, told) for told in slot.heard())
            if over:
                slot.job = None
                yield job, self._ended(slot)

    def _ended(self, slot: _Slot) -> Event:
        try:
            return slot.future.result()
        except BrokenProcessPool:
            self._drop(slot)
            return Lost("its process died")
        except KeyboardInterrupt:
            return Done("interrupted")
        except Exception as error:  # what could not be sent back
            return Done("failed", error=f"{type(error).__name__}: {error}")

    def _drop(self, slot: _Slot) -> None:
        self._slots[self._slots.index(slot)] = None
        slot.close()

    def stop(self) -> None:
        """End all runs that are under way; what they have is saved."""
        slots = [slot for slot in self._slots if slot is not None and slot.job is not None]
        for end, seconds in ((BaseProcess.terminate, GRACE_SECONDS), (BaseProcess.kill, 1.0)):
            alive = [slot for slot in slots if not slot.future.done()]
            for slot in alive:
                slot.process(end)
            until = time.monotonic() + seconds
            while any(not slot.future.done() for slot in alive) and time.monotonic() < until:
                time.sleep(0.05)

    def close(self) -> None:
        """End the workers."""
        for slot in self._slots:
            if slot is not None:
                self._drop(slot)


class _Slot:
    """One worker's process, and the run that it is at."""

    def __init__(self, share: Share, index: int) -> None:
        self.told, telling = _SPAWN.Pipe(duplex=False)
        arguments = (telling, share.threads, share.memory, share.variables[index], os.getpid())
        self._pool = ProcessPoolExecutor(1, mp_context=_SPAWN, initializer=_begin, initargs=arguments)
        self._telling = telling
        self.job: Job | None = None
        self.future: Future[Done]

    def start(self, job: Job, folder: Path, log: Path, how: How) -> None:
        self.future = self._pool.submit(_work, job, folder, log, how)
        self.job = job

    def heard(self) -> Iterator[Begun | Told]:
        with suppress(EOFError, OSError):
            while self.told.poll():
                yield self.told.recv()

    def process(self, end: Callable[[BaseProcess], None]) -> None:
        """Do this to the process, if it is there."""
        for process in list((self._pool._processes or {}).values()):
            with suppress(OSError, ValueError):
                end(process)

    def close(self) -> None:
        self.process(BaseProcess.kill)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.told.close()
        self._telling.close()


def _begin(telling: Connection, *share: object) -> None:
    global _tell_to
    _tell_to = telling
    prepare(*share)  # type: ignore[arg-type]


def _work(job: Job, folder: Path, log: Path, how: How) -> Done:
    assert _tell_to is not None
    return work(job, folder, log, _tell_to.send, how)


def shares(
    jobs: int, at_once: int | None, threads: int | None, gpus: Sequence[str] = (), memory: int | None = None
) -> Share:
    """How this machine is divided among so many jobs.

    On GPUs one run a GPU (they are named as ``CUDA_VISIBLE_DEVICES`` has them); else so many runs ``at_once``, or as
    many as there are processors for their ``threads`` and memory for what each needs (``memory`` bytes; None: each gets
    its part of what is free).
    """
    from flowbench.memory import available_bytes

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = available_bytes()
    slots = at_once or len(gpus) or max(1, cores // (threads or 1))
    if not at_once and memory and free is not None:
        slots = max(1, min(slots, free // memory))
    slots = min(slots, jobs)
    threads = threads or max(1, cores // slots)
    each = None if gpus else memory or (None if free is None else int(0.9 * free / slots))
    variables = tuple({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(slots))
    return Share(threads, each, variables)
