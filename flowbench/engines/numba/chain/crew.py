"""Threads that enter compiled code together, and wait for work without taking any of the processor's time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

Part = Callable[[int], object]
"""Does the part of a piece of work that belongs to a thread."""


class Crew:
    """One piece of work at a time, its parts on as many threads as it has; the first is the caller's."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._free = threading.Lock()
        self._orders: list[queue.SimpleQueue[Part]] = []
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(self, part: Part, threads: int) -> None:
        """All parts of a piece of work; returns when they are done, and raises what one of them raised."""
        with self._free:
            self._enlist(threads - 1)
            for orders in self._orders[: threads - 1]:
                orders.put(part)
            try:
                part(0)
            finally:
                failures = [self._done.get() for _ in range(threads - 1)]
        for failure in failures:
            if failure is not None:
                raise failure

    def _enlist(self, helpers: int) -> None:
        while len(self._orders) < helpers:
            orders: queue.SimpleQueue[Part] = queue.SimpleQueue()
            number = len(self._orders) + 1
            threading.Thread(target=self._work, args=(orders, number), daemon=True, name=f"chain-{number}").start()
            self._orders.append(orders)

    def _work(self, orders: queue.SimpleQueue[Part], number: int) -> None:
        while True:
            part, failure = orders.get(), None
            try:
                part(number)
            except BaseException as error:  # it is the caller's
                failure = error
            del part  # and the memory that it holds
            self._done.put(failure)


_CREW = Crew()


def run(part: Part, threads: int) -> None:
    """The parts of a piece of work, by the crew of this process: a fork leaves its threads behind."""
    global _CREW
    if threads == 1:
        part(0)
        return
    if _CREW._process != os.getpid():
        _CREW = Crew()
    _CREW.run(part, threads)
