"""A posterior q(z | x): an encoder, a Gaussian with the parameters that it gives, and a flow that it conditions."""

from __future__ import annotations

from torch import Tensor, nn

from flowbench.flows import Flow
from flowbench.transforms import beside
from flowbench.variational.gaussians import Gaussian


class Posterior(nn.Module):
    """z = f⁻¹(z₀; h) with z₀ from the Gaussian (Kingma et al. 2016, Algorithm 1).

    A flow's ``to_data``, from noise to data, is the direction that is sampled: of an IAF one pass of each network, of a
    MAF D passes in the textbook and one by substitution. Without a flow the Gaussian is the posterior.

    Args:
        encoder: rows (N, D) to (N, ``gaussian.parameters`` + C): the Gaussian's parameters, and the context h.
        gaussian: where the flow begins.
        flow: of K columns, given C numbers; None: none.
    """

    def __init__(self, encoder: nn.Module, gaussian: Gaussian, flow: Flow | None) -> None:
        super().__init__()
        self.encoder, self.gaussian, self.flow = encoder, gaussian, flow

    def forward(self, x: Tensor) -> Tensor:
        """What the encoder says of rows (N, D): (N, ``gaussian.parameters`` + C)."""
        encoded: Tensor = self.encoder(x)
        return encoded

    def draw(self, encoded: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Of standard normal noise (N, K): z (N, K) and log q(z | x) (N,) in nats; differentiable in all."""
        theta, context = self._parts(encoded)
        z, log_prob = self.gaussian.draw(theta, noise)
        if self.flow is None:
            return z, log_prob
        moved, log_det = self.flow.to_data(beside(context if self.flow.given else None, z))
        return self.flow.apart(moved)[1], log_prob - log_det

    def log_prob(self, encoded: Tensor, z: Tensor) -> Tensor:
        """log q(z | x) (N,) in nats of given points (N, K)."""
        theta, context = self._parts(encoded)
        if self.flow is None:
            return self.gaussian.log_prob(theta, z)
        moved, log_det = self.flow.to_noise(beside(context if self.flow.given else None, z))
        return self.gaussian.log_prob(theta, self.flow.apart(moved)[1]) + log_det

    def _parts(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return encoded[:, : self.gaussian.parameters], encoded[:, self.gaussian.parameters :]
