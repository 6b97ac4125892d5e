"""Peers that do what real ones might: die, fail, fill memory. Each is an adapter as ``flowbench.timing.peers`` has."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from flowbench.timing.peers import Model, Rows, Works


def _works(step: object = None) -> Works:
    def nap() -> None:
        time.sleep(1e-3)

    return Works(density=nap, sampling=nap, step=step or nap)  # type: ignore[arg-type]


def sound(model: Model, rows: Rows, device: str) -> Works:
    print("what a library prints is no answer")
    return _works()


def killed(model: Model, rows: Rows, device: str) -> Works:
    return _works(lambda: os.kill(os.getpid(), signal.SIGKILL))


def exits(model: Model, rows: Rows, device: str) -> Works:
    return _works(lambda: os._exit(3))


def fails(model: Model, rows: Rows, device: str) -> Works:
    def step() -> None:
        raise MemoryError("no more of it")

    return _works(step)


def greedy(model: Model, rows: Rows, device: str) -> Works:
    """Takes more than it was granted, at full size only."""

    def step() -> None:
        np.ones(2**20 if model.dim < 64 else 2**33, dtype=np.uint8)

    return _works(step)


def hungry(model: Model, rows: Rows, device: str) -> Works:
    """Holds D² times 4 kB and D times 1 MB for a step."""
    return _works(lambda: np.ones(model.dim**2 * 4096 + model.dim * 2**20, dtype=np.uint8))


def absent(model: Model, rows: Rows, device: str) -> Works:
    import no_such_library  # type: ignore[import-not-found]  # noqa: F401

    raise AssertionError
