"""p(x | z): what a latent variable model says of rows, given latents whose prior is N(0, I)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from flowbench.transforms import standard_normal


class Likelihood(Protocol):
    """log p(x | z), and how training rows become such x."""

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """(N,) in nats of rows (N, D) and latents (N, K)."""
        ...

    def seen(self, x: Tensor) -> Tensor:
        """What training sees of rows (N, D)."""
        ...


class Bernoulli(nn.Module):
    """Pixels of 0 and 1, independent given z: log p(x | z) = Σ_i log Bernoulli(x_i; σ(decoder(z)_i)).

    Training rows are intensities, drawn anew as 0 or 1 each time they are seen (dynamic binarisation, Salakhutdinov
    and Murray 2008).
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        return -F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)

    def seen(self, x: Tensor) -> Tensor:
        """0 or 1."""
        return torch.bernoulli(x)


class LinearGaussian(nn.Module):
    """x = W z + b + noise with variances ψ, all known: what is learnt is the posterior alone.

    Args:
        loadings: W (D, K).
        offset: b (D,).
        variances: ψ (D,).
    """

    loadings: Tensor
    offset: Tensor
    scales: Tensor

    def __init__(
        self, loadings: NDArray[np.float64], offset: NDArray[np.float64], variances: NDArray[np.float64]
    ) -> None:
        super().__init__()
        for name, values in (("loadings", loadings), ("offset", offset), ("scales", np.sqrt(variances))):
            self.register_buffer(name, torch.tensor(values, dtype=torch.get_default_dtype()))

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        errors = (x - z @ self.loadings.t() - self.offset) / self.scales
        return (standard_normal(errors) - self.scales.log()).sum(1)

    def seen(self, x: Tensor) -> Tensor:
        """The rows as they are."""
        return x
