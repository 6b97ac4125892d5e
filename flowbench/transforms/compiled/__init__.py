"""Kernels that are compiled on the user's machine, without a compiler there: numba's for a CPU, Triton's for CUDA.

None of them is needed: ``of(rows)`` and ``on_gpu(rows, …)`` are there or None, and where they are None torch does all
the work.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from flowbench.transforms.univariate import Affine, Univariate

if TYPE_CHECKING:
    from types import ModuleType


class Kernels(NamedTuple):
    """The modules of kernels for a CPU."""

    blocks: ModuleType
    small: ModuleType
    normalise: ModuleType
    pointwise: ModuleType


@functools.cache
def _load() -> Kernels | None:
    """Import them; that takes half a second, so only once they are needed."""
    try:
        from flowbench.transforms.compiled import blocks, normalise, pointwise, small
    except ImportError:
        return None
    return Kernels(blocks, small, normalise, pointwise)


def of(rows: Tensor, univariate: Univariate | None = None) -> Kernels | None:
    """The kernels, if they can work on ``rows`` with this univariate map: on a CPU, affine, in single or double."""
    plain = rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64)
    return _load() if plain and (univariate is None or type(univariate) is Affine) else None


@functools.cache
def _load_fused() -> ModuleType | None:
    """Import Triton, which comes with torch for CUDA, and try it: it wants a C compiler and a GPU not too old."""
    try:
        from flowbench.transforms.compiled import fused

        fused.try_out()
    except Exception as error:  # whatever Triton, the compiler and the driver may raise
        warnings.warn(
            f"substitution goes by torch's calls, which take longer: Triton fails here: {error}", stacklevel=2
        )
        return None
    return fused


def on_gpu(rows: Tensor, univariate: Univariate) -> ModuleType | None:
    """Substitution in one kernel, if it can work on ``rows`` with this map: on CUDA, affine, in single or double."""
    plain = rows.device.type == "cuda" and rows.dtype in (torch.float32, torch.float64)
    return _load_fused() if plain and type(univariate) is Affine else None
