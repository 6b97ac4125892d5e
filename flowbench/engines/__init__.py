"""How the mathematics is run fast: engines, and the one place where they are chosen.

An engine gets a transform's plan, its tensors and rows; never a module. `eager` runs every plan on every device, in
torch's calls. The others are it with parts in kernels, where they know the map and the activation: `numba` on a CPU,
`triton` on CUDA.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

from flowbench.engines.eager.engine import TorchEngine
from flowbench.engines.interface import Engine, Moved, Pull, Stage

__all__ = ["TORCH", "Engine", "Moved", "Pull", "Stage", "TorchEngine", "choose"]

TORCH = TorchEngine()


def choose(rows: Tensor) -> Engine:
    """The engine for rows of this device and dtype."""
    if rows.dtype in (torch.float32, torch.float64):
        if rows.device.type == "cpu":
            return _numba()
        if rows.device.type == "cuda":
            return _triton()
    return TORCH


@functools.cache
def _numba() -> Engine:
    """Import and try numba's; that takes half a second, so only once it is needed."""
    try:
        from flowbench.engines.numba.engine import NumbaEngine

        engine = NumbaEngine()
        engine.try_out()
    except ImportError:
        return TORCH
    except Exception as error:  # whatever numba and LLVM may raise, on another version or processor
        _warn("kernels for the CPU cannot be compiled here", error)
        return TORCH
    return engine


@functools.cache
def _triton() -> Engine:
    """Import Triton, which comes with torch for CUDA, and try it: it wants a C compiler and a GPU not too old."""
    try:
        from flowbench.engines.triton.engine import TritonEngine

        engine = TritonEngine()
        engine.try_out()
    except Exception as error:  # whatever Triton, the compiler and the driver may raise
        _warn("Triton fails here", error)
        return TORCH
    return engine


def _warn(what: str, error: Exception) -> None:
    warnings.warn(f"torch's calls do all the work, which takes longer: {what}: {error}", stacklevel=3)
