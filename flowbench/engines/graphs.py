"""Work on CUDA that is launched as one: a captured graph, replayed."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from flowbench.console import warn
from flowbench.engines.interface import Work
from flowbench.tuning import GRAPH_WARM

_CAPTURING = threading.Lock()
"""What a thread captures, other threads' captures would spoil."""


class Replayed:
    """Runs work that takes a tensor on CUDA and gives one: captured as a graph for each shape, then replayed.

    It is the same work at every call; what it reads and writes besides must stay where it is in memory, and it must not
    wait for the device. Every call does it exactly once. Where it cannot be captured it is run as it is, with a
    warning.
    """

    def __init__(self) -> None:
        self._calls: dict[torch.Size, int] = {}
        self._replays: dict[torch.Size, Work | None] = {}
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def __call__(self, work: Work, rows: Tensor) -> Tensor:
        """``work(rows)``."""
        shape = rows.shape
        if shape not in self._replays:
            seen = self._calls[shape] = self._calls.get(shape, 0) + 1
            if seen <= GRAPH_WARM:
                return self._aside(work, rows)
            self._replays[shape] = self._captured(work, rows)
        replay = self._replays[shape] or work
        return replay(rows)

    def _aside(self, work: Work, rows: Tensor) -> Tensor:
        # on a stream of its own, as what is captured will be: buffers that libraries make for it are made now
        here = torch.cuda.current_stream(rows.device)
        self._stream = self._stream or torch.cuda.Stream(rows.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            out = work(rows)
        here.wait_stream(self._stream)
        out.record_stream(here)
        return out

    def _captured(self, work: Work, rows: Tensor) -> Work | None:
        """The graph of the work on rows of this shape; None if it has none. Nothing is done yet."""
        here = torch.cuda.current_stream(rows.device)
        graph, given = torch.cuda.CUDAGraph(), rows.clone()
        # one memory for all shapes: they are replayed one after the other, and nothing in it is looked at later
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            with (
                _CAPTURING,
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                out = work(given)
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # a capture that fails leaves its own behind
            warn(f"no CUDA graph of a step: {error}. Steps are launched call by call")
            return None

        def replay(rows: Tensor) -> Tensor:
            given.copy_(rows)
            graph.replay()
            return out.clone()

        return replay
