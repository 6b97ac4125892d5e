"""Threads that enter compiled code together, and wait for work without taking any of the processor's time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

import torch

from flowbench.engines.numba.chain.gate import THREADS_WAIT

Part = Callable[[int], object]
"""Does the part of a piece of work that belongs to a thread."""

PATIENCE = 5.0
"""Seconds that others get to end their parts after the first thread's was broken off."""

Done = queue.SimpleQueue[BaseException | None]
"""What threads report: that they are done, or what they raised."""


class Crew:
    """One piece of work at a time, its parts on as many threads as it has; the first is the caller's."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._free = threading.Lock()
        self._orders: list[queue.SimpleQueue[tuple[Part, Done]]] = []

    def run(self, part: Part, threads: int) -> None:
        """All parts of a piece of work; returns when they are done, and raises what one of them raised."""
        done: Done = queue.SimpleQueue()
        with self._free:
            self._enlist(threads - 1)
            for orders in self._orders[: threads - 1]:
                orders.put((part, done))
            patience: float | None = PATIENCE
            try:
                part(0)
                patience = None
            finally:  # what broke off before it met the others leaves them waiting
                failures = [done.get(timeout=patience) for _ in range(threads - 1)]
        for failure in failures:
            if failure is not None:
                raise failure

    def _enlist(self, helpers: int) -> None:
        while len(self._orders) < helpers:
            orders: queue.SimpleQueue[tuple[Part, Done]] = queue.SimpleQueue()
            number = len(self._orders) + 1
            threading.Thread(target=_work, args=(orders, number), daemon=True, name=f"chain-{number}").start()
            self._orders.append(orders)


def _work(orders: queue.SimpleQueue[tuple[Part, Done]], number: int) -> None:
    while True:
        part, done = orders.get()
        failure = None
        try:
            part(number)
        except BaseException as error:  # it is the caller's
            failure = error
        del part  # and the memory that it holds
        done.put(failure)


_CREW = Crew()


def size(*limits: int) -> int:
    """How many threads a piece of work takes: those that torch has, but for these limits."""
    return max(1, min(torch.get_num_threads() if THREADS_WAIT else 1, *limits))


def run(part: Part, threads: int) -> None:
    """The parts of a piece of work, by the crew of this process.

    A fork leaves the crew's threads behind, and after what was broken off one may still be waiting for the others:
    then there is a new crew.
    """
    global _CREW
    if threads == 1:
        part(0)
        return
    if _CREW.process != os.getpid():
        _CREW = Crew()
    try:
        _CREW.run(part, threads)
    except BaseException:
        _CREW = Crew()
        raise
