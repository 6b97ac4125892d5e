"""A worker's side of its process: it works only when it is asked to. Whatever goes wrong ends it, and its last line on
stderr says why."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from flowbench import memory
from flowbench.timing.peers import Rows
from flowbench.training.memory import keep_freed_memory


def serve(begin: Callable[[BinaryIO], object]) -> None:
    """Answer each line of stdin by a line on stdout, until there are no more.

    ``begin`` reads what comes before the first request and returns the worker; a request names one of its methods and
    has the arguments.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    requests = sys.stdin.buffer
    worker = begin(requests)
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        print(json.dumps(getattr(worker, request.pop("what"))(**request)), file=answers, flush=True)


def read_rows(requests: BinaryIO, shape: tuple[int, int]) -> Rows:
    """The rows (N, D) that follow the opening line."""
    n, dim = shape
    return np.frombuffer(requests.read(4 * n * dim), dtype=np.float32).reshape(n, dim)


def prepare(available: int | None) -> None:
    """Take no more than ``available`` bytes of memory, and keep what is freed as flowbench's own process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks is interrupted, and ends this process
    keep_freed_memory()
    memory.give_way(available)
