"""Threads that wait in compiled code for their parts of a piece of work, and sleep if none comes soon.

To wake a thread that waits in Python takes as long as the density of a small table: the interpreter is handed over
twice. These are handed the address of a function, and never return to Python.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from numpy.typing import NDArray

from flowbench.engines.numba.chain.found import integers
from flowbench.engines.numba.chain.gate import THREADS_WAIT, new_gate, wait
from flowbench.engines.numba.chain.registers import call
from flowbench.engines.numba.vectors import address_of, jit

Kernel = Callable[[int, int, Any], None]
"""Does a thread's part: of the address of an order, the thread's number, and a zero of the precision."""

TYPES: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
"""The precisions that there are kernels in."""

_CODE, _ORDER, _NUMBER, _SINGLE, _GATE = range(5)
"""What lies on a desk: a function and its order, the thread's number, the precision, and the gate where it waits."""


@jit
def _part(code, order, number, single):
    if single:
        call(code, (order, number), (np.float32(0),))
    else:
        call(code, (order, number), (np.float64(0),))


@jit
def _serve(desk, gate):
    """A thread's life, which lasts as long as the process; what it is called with is held as long."""
    at = gate.ctypes.data
    while desk[_GATE] == at:
        wait(at, 2)
        _part(desk[_CODE], desk[_ORDER], desk[_NUMBER], desk[_SINGLE])
        wait(at, 2)


@jit
def _together(desks, code, order, single):
    for address in desks:
        desk = integers(address, 5)
        desk[_CODE], desk[_ORDER], desk[_SINGLE] = code, order, single
        wait(desk[_GATE], 2)
    _part(code, order, 0, single)
    for address in desks:
        wait(integers(address, 5)[_GATE], 2)


class Crew:
    """One piece of work at a time, its parts on as many threads as it has; the first is the caller's."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._free = threading.Lock()
        self._desks = np.empty(0, np.int64)

    def run(self, code: int, order: int, threads: int, single: bool) -> None:
        """All parts of a piece of work; returns when they are done."""
        with self._free:
            while len(self._desks) < threads - 1:
                self._enlist()
            _together(self._desks[: threads - 1], code, order, single)

    def _enlist(self) -> None:
        number, gate = len(self._desks) + 1, new_gate()
        desk = np.array([0, 0, number, 0, gate.ctypes.data])
        _serve.compile((types.int64[::1], types.int64[::1]))  # here: a thread that failed at it would be waited for
        threading.Thread(target=_serve, args=(desk, gate), daemon=True, name=f"chain-{number}").start()
        self._desks = np.append(self._desks, desk.ctypes.data)  # the last: an interrupt before leaves one who sleeps


_CREW = Crew()


def size(*limits: int) -> int:
    """How many threads a piece of work takes: those that torch has, but for these limits."""
    return max(1, min(torch.get_num_threads() if THREADS_WAIT else 1, *limits))


def run(kernel: Kernel, order: NDArray[np.int64], threads: int, dtype: Any) -> None:
    """A kernel in the precision of a dtype of numpy's, by the crew of this process.

    What the order tells the addresses of must be held until this returns. A fork leaves the crew's threads behind:
    then there is a new crew.
    """
    global _CREW
    what = address_of(kernel, dtype, integers=2), order.ctypes.data
    if threads == 1:
        _part(*what, 0, dtype == np.float32)
        return
    if _CREW.process != os.getpid():
        _CREW = Crew()
    _CREW.run(*what, threads, dtype == np.float32)
