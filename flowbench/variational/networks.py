"""Encoders and decoders: fully connected, or residual convolutions, as in the appendix of Kingma et al. 2016."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

HEAD = 0.1
"""Of their usual size, the weights of an encoder's last layer to begin with: posteriors begin near N(0, I)."""


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """A fully connected network with ELU units, (N, inputs) to (N, outputs); linear where there are none."""
    layers: list[nn.Module] = []
    for below, above in pairwise((inputs, *hidden)):
        layers += [nn.Linear(below, above), nn.ELU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], outputs))


class Same(nn.Module):
    """What says the same of every row: (N, D) to (N, outputs), numbers that are trained themselves, zeros at first."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.said = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """As often as there are rows."""
        return self.said.expand(len(x), -1)


class Residual(nn.Module):
    """y = skip(x) + conv(elu(conv(elu(x)))), 3×3, of a picture as large, half as large or of a given ``size``.

    What shrinks does so by a stride of 2, what grows to a size repeats pixels first; the skip is a 1×1 convolution.
    """

    def __init__(self, inputs: int, maps: int, stride: int = 1, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.size = size
        self.first = nn.Conv2d(inputs, maps, 3, stride, padding=1)
        self.second = nn.Conv2d(maps, maps, 3, padding=1)
        self.skip = nn.Conv2d(inputs, maps, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, maps, H', W')."""
        if self.size is not None:
            x = F.interpolate(x, size=self.size, mode="nearest")
        out: Tensor = self.skip(x) + self.second(F.elu(self.first(F.elu(x))))
        return out


def shrunk(side: int, stages: int) -> list[int]:
    """Sides of a square picture that is halved so often, the picture's own first: 28, 14, 7, 4."""
    sides = [side]
    for _ in range(stages):
        sides.append((sides[-1] + 1) // 2)
    return sides


def is_square(pixels: int) -> bool:
    """Whether so many pixels are a square picture."""
    return math.isqrt(pixels) ** 2 == pixels


class ConvolutionalEncoder(nn.Module):
    """Stages that halve a square picture, two residual blocks each; a fully connected layer, and a linear one."""

    def __init__(self, pixels: int, maps: Sequence[int], units: int, outputs: int) -> None:
        super().__init__()
        self.side = math.isqrt(pixels)
        stages = ((Residual(a, b, stride=2), Residual(b, b)) for a, b in pairwise((1, *maps)))
        self.blocks = nn.Sequential(*chain.from_iterable(stages))
        last = shrunk(self.side, len(maps))[-1]
        self.head = begun_small(mlp((1, *maps)[-1] * last * last, (units,), outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (N, D) to (N, outputs)."""
        picture = self.blocks(x.view(len(x), 1, self.side, self.side))
        out: Tensor = self.head(F.elu(picture).flatten(1))
        return out


class ConvolutionalDecoder(nn.Module):
    """`ConvolutionalEncoder` the other way round: to a logit of each pixel."""

    def __init__(self, latents: int, units: int, maps: Sequence[int], pixels: int) -> None:
        super().__init__()
        *larger, last = shrunk(math.isqrt(pixels), len(maps))
        self.shape = (1, *maps)[-1], last, last
        self.head = mlp(latents, (units,), math.prod(self.shape))
        steps = zip(pairwise((*reversed(maps), maps[0] if maps else 1)), reversed(larger), strict=True)
        stages = ((Residual(a, a), Residual(a, b, size=(side, side))) for (a, b), side in steps)
        self.blocks = nn.Sequential(*chain.from_iterable(stages))
        self.last = nn.Conv2d(maps[0] if maps else 1, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, K) to (N, D)."""
        picture = self.blocks(self.head(z).view(-1, *self.shape))
        return torch.flatten(self.last(F.elu(picture)), 1)


def begun_small(head: nn.Sequential) -> nn.Sequential:
    """The network, its last layer near zero."""
    last = head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight *= HEAD
        last.bias.zero_()
    return head
