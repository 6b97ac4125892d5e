"""Where threads in compiled code wait for each other."""

from __future__ import annotations

import os

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from flowbench.engines.numba.vectors import jit

THREADS_WAIT = os.name == "posix"
"""Whether they can: by POSIX's calls."""

SPINS, TURNS = 1000, 1000
"""Looks before a thread lets others have its core, such as the one that it waits for, and how often it does so before
it sleeps: after some tenths of a millisecond, as long as the pause between two steps of training, or two densities. A
core that has gone to sleep takes nearly as long to come back, and is slower for a while: of 0.34 ms for a RealNVP's
density at D = 6 and 128 rows that was 0.12 (AMD EPYC, a virtual machine)."""

_ARRIVED, _ROUND, _LOCK, _WAKE = 0, 1, 2, 34
_SIZE = 66


@intrinsic
def _add(_, address, number):
    def instructions(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), instructions


@intrinsic
def _look(_, address):
    def instructions(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.int64), instructions


def _posix(name, count):
    return types.ExternalFunction(name, types.int32(*[types.int64] * count))


_init_lock, _init_wake = _posix("pthread_mutex_init", 2), _posix("pthread_cond_init", 2)
_lock, _unlock = _posix("pthread_mutex_lock", 1), _posix("pthread_mutex_unlock", 1)
_yield = _posix("sched_yield", 0)
_sleep, _wake_all = _posix("pthread_cond_wait", 2), _posix("pthread_cond_broadcast", 1)


def new_gate():
    """A gate; it must outlive those who wait at it."""
    gate = np.zeros(_SIZE, np.int64)
    if THREADS_WAIT:
        _open(gate)
    return gate


@jit
def _open(gate):
    at = gate.ctypes.data
    _init_lock(at + 8 * _LOCK, 0)
    _init_wake(at + 8 * _WAKE, 0)


def _wait(at, threads):
    """At a gate's address, until so many threads have come."""
    if threads == 1:
        return
    round_here = _look(at + 8 * _ROUND)
    if _add(at + 8 * _ARRIVED, 1) == threads - 1:
        _lock(at + 8 * _LOCK)
        _add(at + 8 * _ARRIVED, -threads)
        _add(at + 8 * _ROUND, 1)
        _wake_all(at + 8 * _WAKE)
        _unlock(at + 8 * _LOCK)
        return
    for _ in range(TURNS):
        for _ in range(SPINS):
            if _look(at + 8 * _ROUND) != round_here:
                return
        _yield()
    _lock(at + 8 * _LOCK)
    while _look(at + 8 * _ROUND) == round_here:
        _sleep(at + 8 * _WAKE, at + 8 * _LOCK)
    _unlock(at + 8 * _LOCK)


def _nobody_else(at, threads):
    """One thread waits for none."""


wait = jit(_wait if THREADS_WAIT else _nobody_else)
