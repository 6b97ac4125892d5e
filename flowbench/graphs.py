"""Work on CUDA that is launched as one: a captured graph, replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowbench.console import warn

Work = Callable[[Tensor], Tensor]

WARM = 2
"""Calls of each shape that are run as they come: they compile kernels and make what is made once."""


class Replayed:
    """``work``, which takes a tensor on CUDA and gives one, captured as a graph for each shape and replayed.

    What it reads and writes besides must stay where it is in memory, and it must not wait for the device. Every call
    does the work exactly once. Where it cannot be captured it is run as it is, with a warning.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._calls: dict[torch.Size, int] = {}
        self._graphs: dict[torch.Size, Work] = {}
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        """The work on ``rows``."""
        shape = rows.shape
        if shape not in self._graphs:
            seen = self._calls[shape] = self._calls.get(shape, 0) + 1
            if seen <= WARM:
                return self._aside(rows)
            self._graphs[shape] = self._captured(rows)
        return self._graphs[shape](rows)

    def _aside(self, rows: Tensor) -> Tensor:
        # on a stream of its own, as what is captured will be: buffers that libraries make for it are made now
        here = torch.cuda.current_stream(rows.device)
        self._stream = self._stream or torch.cuda.Stream(rows.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            out = self._work(rows)
        here.wait_stream(self._stream)
        out.record_stream(here)
        return out

    def _captured(self, rows: Tensor) -> Work:
        graph, given = torch.cuda.CUDAGraph(), rows.clone()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                out = self._work(given)
        except RuntimeError as error:
            warn(f"no CUDA graph of a step: {error}. Steps are launched call by call")
            return self._work

        def replay(rows: Tensor) -> Tensor:
            given.copy_(rows)
            graph.replay()
            return out.clone()

        return replay
