"""Kernels for a CPU, which numba compiles on the user's machine without a compiler there. None of them is needed.

``of(rows)`` is there or None: where numba is missing, and on other devices, torch does all the work.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from flowbench.transforms.univariate import Affine, Univariate

if TYPE_CHECKING:
    from types import ModuleType


class Kernels(NamedTuple):
    """The modules of kernels."""

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
