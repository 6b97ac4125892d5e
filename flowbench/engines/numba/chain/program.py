"""A chain as an engine runs it: the tables of its stages, the memory that a call needs, and the calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowbench.engines.interface import Density, Moved, Stage
from flowbench.engines.numba.chain import crew, kernels
from flowbench.engines.numba.chain.build import Tables, tensors
from flowbench.engines.numba.chain.gate import THREADS_WAIT, new_gate
from flowbench.engines.numba.chain.kernels import Memory
from flowbench.engines.numba.chain.registers import BYTES
from flowbench.tuning import CHAIN_TILE, CHAIN_WORK

_NOWHERE = 0, 0, 0
_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True)
class _Shape:
    """How many rows, of which precision, on how many threads, and in which tiles."""

    rows: int
    dtype: torch.dtype
    threads: int
    tiles: int

    @property
    def lanes(self) -> int:
        """Numbers in a vector."""
        return BYTES // self.dtype.itemsize

    @property
    def pitch(self) -> int:
        """Of rows of memory."""
        longest = -(-self.rows // self.tiles)
        return 1 if self.rows == 1 else -(-longest // self.lanes) * self.lanes

    @property
    def bounds(self) -> np.ndarray:
        """Where tiles begin."""
        return np.arange(self.tiles + 1) * self.rows // self.tiles


class Layout:
    """A chain's tables, and the memory that calls of one shape need."""

    def __init__(self, stages: Sequence[Stage], dim: int, kept: bool) -> None:
        tables = Tables(stages, dim, kept)
        self.chain = tables.chain()
        self._rows, self._norms = tables.areas.rows, tables.norms
        self._gradient, self._turned, self._kept = tables.size, tables.turned, kept
        self._last: dict[bool, tuple[_Shape, Memory]] = {}

    def memory(self, shape: _Shape, shared: bool, gradients: bool = True) -> Memory:
        """New memory; ``shared`` by the tiles of a thread, with room for ``gradients`` or without."""
        dtype, threads = _DTYPES[shape.dtype], shape.threads
        size = self._rows * shape.pitch
        parts = threads if shared else shape.tiles
        longest = shape.pitch if gradients else 0
        return Memory(
            np.empty(parts * size, dtype),
            size,
            shape.pitch,
            shared,
            shape.bounds,
            np.zeros((max(1, self._norms), 2, self.chain.dim)),
            np.zeros((2, shape.tiles, self._norms, 2, self.chain.dim)),
            np.empty((threads, self._gradient if gradients else 0), dtype),
            np.empty((threads, self._turned * longest), dtype),
        )

    def work(self) -> int:
        """Multiplications for a row of data, about."""
        return int(self.chain.sees.sum())


class Program:
    """Stages that chains know, run as one."""

    def __init__(self, stages: Sequence[Stage], dim: int) -> None:
        self.stages, self.dim = tuple(stages), dim
        self._tensors = [tensor for stage in stages for tensor in tensors(stage)]
        self._by_batch = any(getattr(stage.plan, "by_batch", False) and not stage.inverted for stage in stages)
        self._free = threading.Lock()
        self._kept_memory: dict[str, tuple[_Shape, Memory]] = {}
        self._gate = new_gate()

    @cached_property
    def _passing(self) -> Layout:
        return Layout(self.stages, self.dim, kept=False)

    @cached_property
    def _keeping(self) -> Layout:
        return Layout(self.stages, self.dim, kept=True)

    def move(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What leaves (D, N), and log_det (N,), of what comes (D, N)."""
        if self._by_batch:
            return self.forward(x)[:2]
        out = x.new_empty(x.shape[1], self.dim).t()
        return out, self._evaluate(x, _rows(out), is_density=False)

    def log_density(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (D, N) whose image is standard normal."""
        if self._by_batch:
            return self.density(x)[0]
        return self._evaluate(x, _NOWHERE, is_density=True)

    def _evaluate(self, x: Tensor, taken: tuple[int, int, int], is_density: bool) -> Tensor:
        shape, found = self._shape(x, 1), x.new_empty(x.shape[1])
        if not len(found):
            return found
        with self._memory("evaluate", self._passing, shape, gradients=False) as memory:
            out, given, weights = found.numpy(), _rows(x), _addresses(self._tensors)
            chain, threads, lanes = self._passing.chain, shape.threads, shape.lanes

            def part(thread: int) -> None:
                kernels.evaluate(chain, weights, memory, given, taken, out, is_density, thread, threads, lanes)

            crew.run(part, threads)
        return found

    def forward(self, x: Tensor) -> Moved:
        """As ``move``, with the pull-back."""
        out = x.new_empty(x.shape[1], self.dim).t()
        log_det, pull = self._keep(x, _rows(out), is_density=False)

        def pull_rows(grad_out: Tensor, grad_log_det: Tensor, gradients: Sequence[Tensor]) -> Tensor:
            return pull(grad_log_det, gradients, grad_out)

        return out, log_det, pull_rows

    def density(self, x: Tensor) -> Density:
        """As ``log_density``, with the pull-back."""
        return self._keep(x, _NOWHERE, is_density=True)

    def _keep(self, x: Tensor, taken: tuple[int, int, int], is_density: bool) -> Any:
        layout, shape, found = self._keeping, self._shape(x, 3), x.new_empty(x.shape[1])
        memory = layout.memory(shape, shared=False)
        weights, given, out = _addresses(self._tensors), _rows(x), found.numpy()
        rest = shape.threads, self._gate, shape.lanes

        def part(thread: int) -> None:
            kernels.forward(layout.chain, weights, memory, given, taken, out, is_density, thread, *rest)

        if len(found):
            crew.run(part, shape.threads)

        def pull(above: Tensor, gradients: Sequence[Tensor], rows: Tensor | None = None) -> Tensor:
            grad_x = x.new_empty(x.shape[1], self.dim).t()
            if not len(above):
                for gradient in gradients:
                    gradient.zero_()
                return grad_x
            places, taken, total = self._places(gradients), _rows(grad_x), above.double().sum().item()
            cotangents = _NOWHERE if rows is None else _rows(rows)
            own = above.contiguous().numpy()

            def part(thread: int) -> None:
                known = weights, memory, cotangents, own, total, is_density, places, taken, thread
                kernels.backward(layout.chain, *known, *rest)

            crew.run(part, shape.threads)
            return grad_x

        return found, pull

    def descend(self, x: Tensor, each: float, gradients: Sequence[Tensor]) -> Tensor:
        """The log-density (N,) of x (D, N), and in ``gradients`` those of ``each`` times its sum."""
        shape, found = self._shape(x, 3), x.new_empty(x.shape[1])
        with self._memory("descend", self._keeping, shape, gradients=True) as memory:
            out, given, weights = found.numpy(), _rows(x), _addresses(self._tensors)
            places, chain, rest = self._places(gradients), self._keeping.chain, (shape.threads, self._gate, shape.lanes)

            def part(thread: int) -> None:
                kernels.both(chain, weights, memory, given, out, each, places, thread, *rest)

            crew.run(part, shape.threads)
        return found

    def _places(self, gradients: Sequence[Tensor]) -> np.ndarray:
        """Addresses of gradients where those of weights are: statistics have none."""
        found, own = [], iter(gradients)
        for stage in self.stages:
            held = len(stage.weights)
            found += [next(own).data_ptr() for _ in range(held)]
            found += [0] * (len(tensors(stage)) - held)
        return np.array(found, np.int64)

    def _shape(self, x: Tensor, passes: int) -> _Shape:
        rows = x.shape[1]
        layout = self._keeping if passes > 1 else self._passing
        work = layout.work() * rows * passes
        threads = torch.get_num_threads() if THREADS_WAIT else 1
        threads = max(1, min(threads, rows // (BYTES // x.dtype.itemsize), work // CHAIN_WORK))
        tiles = max(1, -(-rows // (threads * CHAIN_TILE))) * threads
        return _Shape(rows, x.dtype, threads, tiles)

    def _memory(self, name: str, layout: Layout, shape: _Shape, gradients: bool) -> _Lent:
        return _Lent(self, name, layout, shape, gradients)


class _Lent:
    """Memory of the last call of that kind, if it had the same shape and is not being used."""

    def __init__(self, program: Program, name: str, layout: Layout, shape: _Shape, gradients: bool) -> None:
        self._program, self._name, self._layout, self._shape = program, name, layout, shape
        self._gradients = gradients

    def __enter__(self) -> Memory:
        program = self._program
        with program._free:
            shape, memory = program._kept_memory.pop(self._name, (None, None))
        if shape != self._shape or memory is None:
            shared = not (self._gradients and program._by_batch)
            memory = self._layout.memory(self._shape, shared, self._gradients)
        self._memory = memory
        return memory

    def __exit__(self, *_: object) -> None:
        with self._program._free:
            self._program._kept_memory[self._name] = self._shape, self._memory


def _rows(x: Tensor) -> tuple[int, int, int]:
    """(address, distance of rows, distance of columns) of columns (D, N)."""
    return x.data_ptr(), x.stride(1), x.stride(0)


def _addresses(tensors: Sequence[Tensor]) -> np.ndarray:
    return np.array([tensor.data_ptr() for tensor in tensors], np.int64)
