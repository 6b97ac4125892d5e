"""What a transform promises, and the two ways to make one of others: Chain and Inverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]

CALIBRATION_ROWS = 10_000
"""Rows moved at a time when statistics of a whole training set are taken: bounds the memory of the activations."""


class Transform(nn.Module):
    """An invertible map of rows between data space (x) and noise space (u), both (N, D).

    ``forward(x)`` returns ``(u, log_det)`` with ``log_det`` (N,) = log|det ∂u/∂x|; ``inverse(u)`` returns
    ``(x, log_det)`` with log|det ∂x/∂u|. Each direction is differentiable in its input and in the parameters.

    ``density_passes`` and ``sampling_passes`` count the runs of a conditioner network over all D columns that the
    textbook algorithm needs for each direction; 0 where there is no conditioner.
    """

    density_passes: int = 0
    sampling_passes: int = 0
    calibrated: bool = False
    """Whether ``calibrate`` does anything here."""

    def forward(self, x: Tensor) -> Pair:
        """Normalise: x (N, D) to (u, log|det ∂u/∂x|)."""
        raise NotImplementedError

    def inverse(self, u: Tensor) -> Pair:
        """Generate: u (N, D) to (x, log|det ∂x/∂u|)."""
        raise NotImplementedError

    def calibrate(self, x: Tensor) -> None:
        """Take the statistics that evaluation uses from the whole training set ``x`` (N, D), as it arrives here."""

    def __call__(self, x: Tensor) -> Pair:
        """Forward, with the type that ``nn.Module`` leaves open."""
        return super().__call__(x)


class Chain(Transform):
    """Transforms one after the other: forward applies the first one first, log-dets add up."""

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.density_passes = max((t.density_passes for t in self), default=0)
        self.sampling_passes = max((t.sampling_passes for t in self), default=0)
        self.calibrated = any(t.calibrated for t in self)

    def __iter__(self) -> Iterator[Transform]:
        return cast("Iterator[Transform]", iter(self.transforms))

    def __len__(self) -> int:
        return len(self.transforms)

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det), first transform first."""
        log_det = x.new_zeros(len(x))
        for transform in self:
            x, step = transform(x)
            log_det = log_det + step
        return x, log_det

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det), last transform first."""
        log_det = u.new_zeros(len(u))
        for transform in reversed(list(self)):
            u, step = transform.inverse(u)
            log_det = log_det + step
        return u, log_det

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Calibrate each transform on the training set as the calibrated ones before it leave it."""
        waiting = sum(t.calibrated for t in self)
        for transform in self:
            if not waiting:
                return
            transform.calibrate(x)
            waiting -= transform.calibrated
            x = torch.cat([transform(rows)[0] for rows in x.split(CALIBRATION_ROWS)])


class Inverse(Transform):
    """A transform with its directions exchanged. IAF is this around MAF's transform (Kingma et al. 2016, §3)."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if transform.calibrated:
            raise ValueError("statistics are those of data on its way to noise: invert what lies between")
        self.transform = transform
        self.density_passes = transform.sampling_passes
        self.sampling_passes = transform.density_passes

    def forward(self, x: Tensor) -> Pair:
        """The wrapped transform's inverse."""
        return self.transform.inverse(x)

    def inverse(self, u: Tensor) -> Pair:
        """The wrapped transform's forward."""
        return self.transform(u)
