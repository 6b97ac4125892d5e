"""A network's levels from the input up, its cotangents from the outputs down, and the gradient of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from flowbench.engines.eager import elementwise
from flowbench.engines.interface import Stage
from flowbench.transforms.activation import Activation
from flowbench.transforms.packing import LayerWeights, Packing
from flowbench.transforms.plan import NetworkPlan


class Elementwise(Protocol):
    """What an engine does to each number between products, in its own way."""

    def finish(self, values: Tensor, bias: Tensor, activation: Activation | None) -> Tensor | None:
        """Add biases (units,) to a product (units, N) and apply the non-linearity in place; see ``activate``."""
        ...

    def pull_activation(self, cotangent: Tensor, h: Tensor, slope: Tensor | None, activation: Activation) -> None:
        """What a cotangent becomes below the non-linearity whose output is h, in place."""
        ...


class Network:
    """One run of a network: the values of every level, (units, N), and what its pull-back needs of them."""

    def __init__(self, way: Elementwise, plan: NetworkPlan, flat: Tensor, x: Tensor) -> None:
        self._way, self._plan = way, plan
        self._layers = plan.packing.views(flat.detach())
        self.values = [x]
        self.slopes: list[Tensor | None] = [None]
        stream: Tensor | None = None
        for level, layer in enumerate(self._layers, start=1):
            out = product(layer, self.values[-1])
            activation, bias = plan.activation if level < len(self._layers) else None, layer.bias
            if stream is not None and plan.is_stream(level):
                out += stream
            if plan.is_stream(level + 2):
                stream = out + bias[:, None]
            slope = way.finish(out, bias, activation)
            if plan.drops(level):
                slope = drop(out, slope, plan)
            self.slopes.append(slope)
            self.values.append(out)

    @property
    def outputs(self) -> Tensor:
        """Of the last layer, (out, N)."""
        return self.values[-1]

    def pull(self, cotangent: Tensor, masks: Tensor, out: Tensor) -> Tensor:
        """The cotangent of the input from that of the outputs; the gradient of the weights is written to ``out``."""
        cotangents, stream = [cotangent], None
        for level in range(len(self._layers) - 1, -1, -1):
            own = transposed_product(self._layers[level], cotangents[-1])
            if level:
                self._way.pull_activation(own, self.values[level], self.slopes[level], self._plan.activation)
            if self._plan.is_stream(level):
                own = stream = own if stream is None else own.add_(stream)
            cotangents.append(own)
        write_gradient(self._plan.packing, masks, self.values, cotangents[::-1], out)
        return cotangents[-1]


def beside(stage: Stage, x: Tensor) -> Tensor:
    """What is given, if anything is, above x (D, N): (context + D, N)."""
    context = stage.context
    return x if context is None else torch.cat([context.detach().t(), x])


def apart(stage: Stage, cotangent: Tensor, out: Sequence[Tensor]) -> Tensor:
    """The cotangent of x from that of ``beside``; the context's is written to the last place."""
    context = stage.context
    if context is None:
        return cotangent
    given = context.shape[1]
    out[-1].copy_(cotangent[:given].t())
    return cotangent[given:]


def drop(values: Tensor, slope: Tensor | None, plan: NetworkPlan) -> Tensor:
    """Leave units out at random, in place, and scale up the others; the slope that the units then have."""
    kept = torch.empty_like(values).bernoulli_(1 - plan.dropout).div_(1 - plan.dropout)
    slope = elementwise.slope_of(values, slope, plan.activation) * kept
    values *= kept
    return slope


def product(layer: LayerWeights, below: Tensor) -> Tensor:
    """Weight @ below: (in, N) to (out, N)."""
    if len(layer.strips) == 1:
        return torch.mm(layer.strips[0], below)
    out = below.new_empty(layer.packing.shape[0], below.shape[1])
    for strip, weight in zip(layer.packing.strips, layer.strips, strict=True):
        torch.mm(weight, below[: strip.seen], out=out[strip.rows])
    return out


def transposed_product(layer: LayerWeights, cotangent: Tensor) -> Tensor:
    """Weightᵀ @ cotangent: (out, N) to (in, N)."""
    if len(layer.strips) == 1:
        return torch.mm(layer.strips[0].t(), cotangent)
    out = cotangent.new_empty(layer.packing.shape[1], cotangent.shape[1])
    *others, (strip, weight) = zip(layer.packing.strips, layer.strips, strict=True)
    torch.mm(weight.t(), cotangent[strip.rows], out=out[: strip.seen])  # the last sees most
    out[strip.seen :].zero_()
    for strip, weight in others:
        out[: strip.seen].addmm_(weight.t(), cotangent[strip.rows])
    return out


def write_gradient(
    packing: Packing, masks: Tensor, values: Sequence[Tensor], cotangents: Sequence[Tensor], out: Tensor
) -> None:
    """The gradient of all weights and biases, from every level's values and cotangents, both from the input up."""
    strip_masks = packing.mask_views(masks)
    for layer, below, cotangent in zip(packing.views(out), values[:-1], cotangents[1:], strict=True):
        for strip, weight in zip(layer.packing.strips, layer.strips, strict=True):
            torch.mm(cotangent[strip.rows], below[: strip.seen].t(), out=weight)
            mask = next(strip_masks)
            if mask.numel():
                weight[:, strip.all_see :] *= mask
        torch.sum(cotangent, 1, out=layer.bias)
