"""Hidden non-linearities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise non-linearity; a new one needs no more than its ``function``.

    ``slope`` gives ∂h/∂z from the *output* h, where that determines it; without it engines take it by autograd.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor] | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """h of z, any shape."""
        return self.function(z)


def _relu_slope(h: Tensor) -> Tensor:
    return (h > 0).to(h.dtype)


def _tanh_slope(h: Tensor) -> Tensor:
    return 1 - h * h


def _elu_slope(h: Tensor) -> Tensor:
    return 1 + h.clamp(max=0)


RELU = Activation("relu", torch.relu, _relu_slope)
TANH = Activation("tanh", torch.tanh, _tanh_slope)
ELU = Activation("elu", torch.nn.functional.elu, _elu_slope)
"""Clevert et al. 2016: z above zero, exp(z) − 1 below."""

ACTIVATIONS = {activation.name: activation for activation in (RELU, TANH, ELU)}
"""Those that have a name in a flow's settings."""
