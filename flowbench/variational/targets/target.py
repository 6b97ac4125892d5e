"""What a target density promises."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (D,) of each coordinate of a normalised density, in float64.

    ``mean_stderr`` and ``sd_stderr`` (D,) are their Monte Carlo standard errors: 0 where they are exact, or from a
    quadrature whose error is below 1e-6. ``source`` says which.
    """

    mean: Tensor
    sd: Tensor
    mean_stderr: Tensor
    sd_stderr: Tensor
    source: str


class Target(nn.Module):
    """A density over rows z (N, D), known up to a constant: p(z) = p̃(z) / Z.

    ``forward(z)`` is log p̃(z) (N,) in nats, differentiable, in z's dtype and on the module's device. It and its
    gradient are finite in float32 wherever no |z_i| exceeds 1e5, so that a flow which begins far off finds its way.

    ``name`` is the one of the command line, ``title`` a sentence, ``source`` the paper and where in it. ``version``
    counts changes of p̃: what was measured of different ones is not comparable.
    """

    version = 1

    def __init__(self, name: str, dim: int, title: str, source: str) -> None:
        super().__init__()
        self.name = name
        self.dim = dim
        self.title = title
        self.source = source

    def forward(self, z: Tensor) -> Tensor:
        """log p̃ (N,) in nats of z (N, D)."""
        raise NotImplementedError

    @property
    def log_z(self) -> float | None:
        """log Z in nats, the logarithm of ∫ p̃(z) dz; None where nobody knows it."""
        return None

    @property
    def moments(self) -> Moments:
        """Means and standard deviations of p."""
        raise NotImplementedError

    def draw(self, n: int, generator: Generator) -> Tensor | None:
        """Independent exact draws (n, D) from p, on the generator's device; None where there is no way to have them."""
        return None

    def __call__(self, z: Tensor) -> Tensor:
        """Forward, with the type that ``nn.Module`` leaves open."""
        return super().__call__(z)
