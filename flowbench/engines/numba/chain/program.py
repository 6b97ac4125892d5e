"""A chain as an engine runs it: the tables of its stages, the memory that a call needs, and the calls."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowbench.engines.interface import Density, Held, Moved, Stage
from flowbench.engines.numba.chain import crew, kernels
from flowbench.engines.numba.chain.build import Tables, by_batch, tensors
from flowbench.engines.numba.chain.gate import new_gate
from flowbench.engines.numba.chain.products import PACKED_ROOM
from flowbench.engines.numba.chain.stages import addresses
from flowbench.engines.numba.chain.tables import Memory
from flowbench.engines.numba.tiles import BYTES
from flowbench.tuning import CHAIN_TILE, CHAIN_WORK

_NOWHERE = 0, 0, 0

REMEMBERED = 2
"""Shapes of batches whose memory is kept: those of an epoch differ by one row."""


class _Shape(NamedTuple):
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


class _Workplace:
    """The memory for calls of one shape; one call at a time."""

    def __init__(self, layout: Layout, shape: _Shape, shared: bool, gradients: bool) -> None:
        dtype, dim = crew.TYPES[shape.dtype], layout.chain.dim
        size, parts = layout.rows * shape.pitch, shape.threads if shared else shape.tiles
        self.dtype, self.threads, self.key = dtype, shape.threads, (shape, gradients)
        self.memory = Memory(
            room=np.empty(parts * size, dtype),
            bounds=shape.bounds,
            statistics=np.zeros((max(1, layout.norms), 2, dim)),
            sums=np.zeros((2, shape.tiles, layout.norms, 2, dim)),
            gradients=np.empty((shape.threads, layout.gradient if gradients else 0), dtype),
            turned=np.empty((shape.threads, max(layout.turned * shape.pitch, PACKED_ROOM) if gradients else 0), dtype),
            pitch=shape.pitch,
            size=size,
            shared=shared,
        )
        self.gate = new_gate()
        self._layout = layout  # and its tables, whose addresses it has
        self._held = self.memory.addresses()
        self._first = layout.addresses.ctypes.data, self._held.ctypes.data
        self._rest = *addresses(dtype, gradients), self.gate.ctypes.data, shape.threads, shape.lanes

    def job(
        self,
        weights: np.ndarray,
        out: Tensor,
        is_density: bool,
        given: tuple[int, int, int] = _NOWHERE,
        taken: tuple[int, int, int] = _NOWHERE,
        places: np.ndarray | None = None,
        number: float = 0.0,
    ) -> np.ndarray:
        """What a call in this memory is told: see `kernels.Job`."""
        where, bits = 0 if places is None else places.ctypes.data, int(np.float64(number).view(np.int64))
        numbers = is_density, out.data_ptr(), *given, *taken, where, bits
        return np.array((*self._first, weights.ctypes.data, *self._rest, *numbers), np.int64)

    def run(self, kernel: crew.Kernel, job: np.ndarray) -> None:
        """A kernel of `kernels`, on this shape's threads."""
        crew.run(kernel, job, self.threads, self.dtype)


class Layout:
    """A chain's tables; ``kept``: for gradients, with places for the values of all stages."""

    def __init__(self, stages: Sequence[Stage], dim: int, kept: bool) -> None:
        tables = Tables(stages, dim, kept)
        self.chain = tables.chain()
        self.addresses = self.chain.addresses()
        self.rows, self.norms = tables.areas.rows, tables.norms
        self.gradient, self.turned = tables.size, tables.turned
        self.work = int(self.chain.sees.sum())
        """Multiplications for a row of data."""


class Program:
    """Stages that chains know, run as one."""

    def __init__(self, stages: Sequence[Stage], dim: int) -> None:
        self.stages, self.dim = tuple(stages), dim
        self._tensors = [tensor for stage in stages for tensor in tensors(stage)]
        self._trained = [index < len(stage.weights) for stage in stages for index in range(len(tensors(stage)))]
        self._by_batch = any(map(by_batch, stages))
        self._workplaces: dict[tuple[_Shape, bool], _Workplace] = {}

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
        return out, self._evaluate(x, False, _rows(out))

    def log_density(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (D, N) whose image is standard normal."""
        return self.density(x)[0] if self._by_batch else self._evaluate(x, True, _NOWHERE)

    def _evaluate(self, x: Tensor, is_density: bool, taken: tuple[int, int, int]) -> Tensor:
        out = x.new_empty(x.shape[1])
        if len(out):
            place, held = self._workplace(x, gradients=False), _held(self._tensors, x)
            weights = _addresses(held)
            place.run(kernels.forward, place.job(weights, out, is_density, _rows(x), taken))
            self._leave(place)
        return out

    def forward(self, x: Tensor) -> Moved:
        """As ``move``, with the pull-back."""
        out = x.new_empty(x.shape[1], self.dim).t()
        log_det, pull = self._keep(x, False, _rows(out))

        def pull_rows(grad_out: Tensor, grad_log_det: Tensor, gradients: Sequence[Tensor]) -> Tensor:
            return pull(grad_log_det, gradients, _rows(grad_out))

        return out, log_det, pull_rows

    def density(self, x: Tensor) -> Density:
        """As ``log_density``, with the pull-back."""
        return self._keep(x, True, _NOWHERE)

    def _keep(self, x: Tensor, is_density: bool, taken: tuple[int, int, int]) -> Any:
        # what it is of, whatever becomes of the parameters until the way back
        out, held = x.new_empty(x.shape[1]), [tensor.detach() for tensor in _held(self._tensors, x)]
        weights = _addresses(held)
        # its own: it is held until the way back
        shape = self._shape(x.shape[1], x.dtype, 3)
        place = _Workplace(self._keeping, shape, shared=False, gradients=True) if len(out) else None
        if place:
            place.run(kernels.forward, place.job(weights, out, is_density, _rows(x), taken))

        def pull(above: Tensor, gradients: Sequence[Tensor], cotangents: tuple[int, int, int] = _NOWHERE) -> Tensor:
            grad_x = x.new_empty(x.shape[1], self.dim).t()
            if not place:
                for gradient in gradients:
                    gradient.zero_()
                return grad_x
            above, own = above.contiguous(), _contiguous(gradients, x)
            places, total = self._places(own), above.double().sum().item()
            weights = _addresses(held)  # whose memory is held with this
            job = place.job(weights, above, is_density, cotangents, _rows(grad_x), places, total)
            place.run(kernels.backward, job)
            _copy_back(own, gradients)
            return grad_x

        return out, pull

    def descend(self, x: Tensor, each: float, gradients: Sequence[Tensor]) -> Tensor:
        """The log-density (N,) of x (D, N), and in ``gradients`` those of ``each`` times its sum."""
        if not x.shape[1]:
            log_prob, pull = self.density(x)
            pull(log_prob, gradients)
            return log_prob
        out, place, held = x.new_empty(x.shape[1]), self._workplace(x, gradients=True), _held(self._tensors, x)
        own = _contiguous(gradients, x)
        weights, places = _addresses(held), self._places(own)
        if self._by_batch:
            place.run(kernels.forward, place.job(weights, out, True, _rows(x)))
            above = torch.full_like(out, each)
            place.run(kernels.backward, place.job(weights, above, True, places=places, number=each * len(out)))
        else:
            place.run(kernels.descend, place.job(weights, out, True, _rows(x), places=places, number=each))
        _copy_back(own, gradients)
        self._leave(place)
        return out

    def _places(self, gradients: Sequence[Tensor]) -> np.ndarray:
        """Addresses of gradients where those of weights are: statistics have none."""
        found = np.zeros(len(self._tensors), np.int64)
        found[self._trained] = _addresses(gradients)
        return found

    def held(self, rows: int) -> Held:
        """See `Engine.held`: the memory of a step on so many rows, in single precision; it stays where it is."""
        shape, layout = self._shape(rows, torch.float32, 3), self._keeping
        parts = shape.tiles if self._by_batch else shape.threads
        turned = max(layout.turned * shape.pitch, PACKED_ROOM)
        return Held(parts * layout.rows * shape.pitch + shape.threads * (turned + layout.gradient), 0)

    def _shape(self, rows: int, dtype: torch.dtype, passes: int) -> _Shape:
        work = (self._keeping if passes > 1 else self._passing).work * rows * passes
        threads = crew.size(rows // (BYTES // dtype.itemsize), work // CHAIN_WORK)
        tiles = max(1, -(-rows // (threads * CHAIN_TILE))) * threads
        return _Shape(rows, dtype, threads, tiles)

    def _workplace(self, x: Tensor, gradients: bool) -> _Workplace:
        """That of an earlier call of the same shape, if nobody is there; give it back to ``_leave``."""
        shape = self._shape(x.shape[1], x.dtype, 3 if gradients else 1)
        place = self._workplaces.pop((shape, gradients), None)  # one thread gets it
        if place is None:
            layout = self._keeping if gradients else self._passing
            place = _Workplace(layout, shape, shared=not (gradients and self._by_batch), gradients=gradients)
        return place

    def _leave(self, place: _Workplace) -> None:
        self._workplaces[place.key] = place
        with suppress(RuntimeError, StopIteration):  # another thread may do the same
            while len(self._workplaces) > 2 * REMEMBERED:
                self._workplaces.pop(next(iter(self._workplaces)), None)


def _held(tensors: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """The tensors as kernels read them.

    Raises:
        ValueError: one is of another precision than x, or elsewhere.
    """
    for tensor in tensors:
        if tensor.dtype != x.dtype or tensor.device != x.device:
            raise ValueError(f"a weight is of {tensor.dtype} on {tensor.device}, rows of {x.dtype} on {x.device}")
    return [tensor if tensor.is_contiguous() else tensor.detach().contiguous() for tensor in tensors]


def _contiguous(gradients: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Places for gradients that kernels can write."""
    fit = (gradient.is_contiguous() and gradient.dtype == x.dtype for gradient in gradients)
    return [place if fits else x.new_empty(place.shape) for place, fits in zip(gradients, fit, strict=True)]


def _copy_back(written: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for own, gradient in zip(written, gradients, strict=True):
        if own is not gradient:
            gradient.copy_(own)


def _rows(x: Tensor) -> tuple[int, int, int]:
    """(address, distance of rows, distance of columns) of columns (D, N)."""
    return x.data_ptr(), x.stride(1), x.stride(0)


def _addresses(tensors: Sequence[Tensor]) -> np.ndarray:
    return np.array([tensor.data_ptr() for tensor in tensors], np.int64)
