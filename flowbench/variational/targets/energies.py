"""The four energy functions in two dimensions on which flows for variational inference are usually shown.

U1 to U4 of Rezende & Mohamed 2015, "Variational inference with normalizing flows", table 1, with p̃(z) ∝ exp(-U(z)) and
w1 = sin(2π z_1 / 4), w2 = 3 exp(-½ ((z_1 - 1) / 0.6)²), w3 = 3 σ((z_1 - 1) / 0.3).

**What the paper leaves open.** U2, U3 and U4 go on for ever along z_1, so that no density belongs to them; the paper
shows a window. Here every p̃, that of U1 too, is multiplied by exp(-½ ((|z_1| - 4)_+ / 0.4)²): within |z_1| ≤ 4
nothing changes, and beyond, p̃ falls off like a Gaussian. z_2 needs no such wall, and one would cut the lower branch of
U4, which reaches z_2 = -4. With another wall, log Z and the moments are others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import relu

from flowbench.variational.targets.target import Moments, Target

_PAPER = 'D. J. Rezende, S. Mohamed, "Variational inference with normalizing flows", ICML 2015, table 1'
_WALL, _WALL_SD = 4.0, 0.4
_REACH, _POINTS = 8.0, 513
"""The quadrature's square, beyond which lies less than 1e-20 of any of the densities, and points along a side of it."""


def energy_1() -> Target:
    """U1: a ring of radius 2, bright on two sides."""
    return Ring()


def energy_2() -> Target:
    """U2: one wave."""
    return Ridges("energy-2", "U2: one ridge along a sine wave", [Ridge(_none, 0.4)])


def energy_3() -> Target:
    """U3: a wave that parts and joins again."""
    return Ridges("energy-3", "U3: a sine wave with a detour", [Ridge(_none, 0.35), Ridge(_bump, 0.35)])


def energy_4() -> Target:
    """U4: a wave that forks."""
    return Ridges("energy-4", "U4: a sine wave that forks into two", [Ridge(_none, 0.4), Ridge(_step, 0.35)])


class Energy(Target):
    """A density from an energy U: log p̃(z) = -U(z) - ½ ((|z_1| - 4)_+ / 0.4)²."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(name, dim=2, title=title, source=f"{_PAPER}; here confined to |z1| <= 4, softly")

    def energy(self, z1: Tensor, z2: Tensor) -> Tensor:
        """U (N,) in nats, as the paper has it."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """log p̃ (N,) in nats of z (N, 2)."""
        z1, z2 = z.unbind(-1)
        return _log_plateau(z1, _WALL, _WALL_SD) - self.energy(z1, z2)

    @property
    def log_z(self) -> float:
        """log Z in nats, by quadrature."""
        return self._integrals[0]

    @property
    def moments(self) -> Moments:
        """Means and standard deviations, by quadrature."""
        return self._integrals[1]

    @cached_property
    def _integrals(self) -> tuple[float, Moments]:
        """log Z and moments by the trapezoidal rule, whose error vanishes exponentially: all is flat at the border."""
        line = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
        z = torch.cartesian_prod(line, line)
        with torch.no_grad():
            log_p = self(z)
        log_sum = log_p.logsumexp(0)
        weights = (log_p - log_sum).exp()
        mean = weights @ z
        sd = (weights @ (z - mean) ** 2).sqrt()
        zero = torch.zeros_like(mean)
        log_cell = 2 * math.log(2 * _REACH / (_POINTS - 1))
        return float(log_sum) + log_cell, Moments(mean, sd, zero, zero, source="quadrature")


class Ring(Energy):
    """U1 = ½ ((|z| - 2) / 0.4)² - log(exp(-½ ((z_1 - 2) / 0.6)²) + exp(-½ ((z_1 + 2) / 0.6)²))."""

    _RADIUS, _SD, _SIDE_SD = 2.0, 0.4, 0.6

    def __init__(self) -> None:
        super().__init__("energy-1", "U1: a ring, of which two opposite sides hold the mass")

    def energy(self, z1: Tensor, z2: Tensor) -> Tensor:
        """U1 (N,) in nats."""
        radius = torch.linalg.vector_norm(torch.stack([z1, z2], -1), dim=-1)
        return 0.5 * ((radius - self._RADIUS) / self._SD) ** 2 - self._log_sides(z1)

    def _log_sides(self, z1: Tensor) -> Tensor:
        return torch.logaddexp(*(-0.5 * ((z1 - side) / self._SIDE_SD) ** 2 for side in (self._RADIUS, -self._RADIUS)))

    def draw(self, n: int, generator: Generator) -> Tensor:
        """Independent draws (n, 2) by rejection, from the two sides along z_1 and a plateau along z_2.

        exp(-½ ((|z| - 2) / 0.4)²) is nowhere above exp(-½ ((|z_2| - 2)_+ / 0.4)²), since |z| ≥ |z_2|.
        """
        drawn = torch.empty(0, 2, device=generator.device)
        while len(drawn) < n:
            sign, noise = torch.randn(2, n, generator=generator, device=generator.device)
            z1 = self._RADIUS * sign.sign() + self._SIDE_SD * noise
            z2 = _draw_plateau(n, self._RADIUS, self._SD, generator)
            proposed = self._log_sides(z1) + _log_plateau(z2, self._RADIUS, self._SD)
            z = torch.stack([z1, z2], -1)
            chance = torch.rand(n, generator=generator, device=generator.device)
            drawn = torch.cat([drawn, z[chance.log() < self(z) - proposed]])
        return drawn[:n]


class Ridge(NamedTuple):
    """A ridge along z_2 = w1(z_1) - shift(z_1), a Gaussian of standard deviation ``sd`` across."""

    shift: Callable[[Tensor], Tensor]
    sd: float


class Ridges(Energy):
    """U = -log Σ_k exp(-½ ((z_2 - w1 + shift_k) / sd_k)²): U2, U3 and U4, whose shifts are 0, w2 and w3."""

    def __init__(self, name: str, title: str, ridges: list[Ridge]) -> None:
        super().__init__(name, title)
        self.ridges = ridges

    def energy(self, z1: Tensor, z2: Tensor) -> Tensor:
        """U (N,) in nats."""
        across = [-0.5 * ((z2 - _wave(z1) + ridge.shift(z1)) / ridge.sd) ** 2 for ridge in self.ridges]
        return -torch.stack(across).logsumexp(0)

    def draw(self, n: int, generator: Generator) -> Tensor:
        """Independent draws (n, 2): z_1 alone has the plateau's density, and across a ridge all is Gaussian."""
        z1 = _draw_plateau(n, _WALL, _WALL_SD, generator)
        sds = torch.tensor([ridge.sd for ridge in self.ridges], device=generator.device)
        shifts = torch.stack([ridge.shift(z1) for ridge in self.ridges])
        share = sds.sum() * torch.rand(n, generator=generator, device=generator.device)
        which = torch.bucketize(share, sds.cumsum(0)[:-1])  # a ridge's mass is as its width
        noise = torch.randn(n, generator=generator, device=generator.device)
        return torch.stack([z1, _wave(z1) - shifts.gather(0, which[None])[0] + sds[which] * noise], -1)


def _wave(z1: Tensor) -> Tensor:
    """w1."""
    return torch.sin(2 * math.pi / 4 * z1)


def _none(z1: Tensor) -> Tensor:
    return torch.zeros_like(z1)


def _bump(z1: Tensor) -> Tensor:
    """w2."""
    return 3 * torch.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)


def _step(z1: Tensor) -> Tensor:
    """w3."""
    return 3 * torch.sigmoid((z1 - 1) / 0.3)


def _log_plateau(z: Tensor, half: float, sd: float) -> Tensor:
    """0 for |z| ≤ half, and beyond it the exponent of a Gaussian: -½ ((|z| - half)_+ / sd)²."""
    return -0.5 * (relu(z.abs() - half) / sd) ** 2


def _draw_plateau(n: int, half: float, sd: float, generator: Generator) -> Tensor:
    """Draws (n,) from the density whose logarithm is `_log_plateau` and a constant: a Gaussian cut and drawn apart."""
    beyond = sd * math.sqrt(2 * math.pi)
    where, within = torch.rand(2, n, generator=generator, device=generator.device)
    noise = torch.randn(n, generator=generator, device=generator.device)
    return torch.where(where < beyond / (beyond + 2 * half), noise.sign() * half + sd * noise, half * (2 * within - 1))
