"""A mixture of Gaussians with full covariances, by expectation maximisation: what a table gives without any network.

scikit-learn's; the number of components is chosen on validation rows.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from flowbench.config import FlowOptions
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.transforms import Undirected, standard_normal


class Options(FlowOptions):
    """How large it may become."""

    components: int = Field(32, ge=1, description="Gaussians at the most: 1, 2, 4, … are tried on validation rows.")
    fit_rows: int = Field(50_000, ge=1, description="Training rows at the most that it is fitted to: the first ones.")


class Gaussians(Undirected):
    """p(x) = Σ_c w_c N(x; m_c, L_c·L_cᵀ)."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    draws = 2

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -torch.inf))
        self.log_weights[0] = 0  # what is not needed has no weight
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))

    def density(self, x: Tensor) -> Tensor:
        """log p(x) (N,) of x (N, D)."""
        volumes = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        parts = zip(self.means, self.factors, self.log_weights - volumes, strict=True)  # one by one: x is large
        each = [self._whitened(x, mean, factor) + constant for mean, factor, constant in parts]
        return torch.stack(each).logsumexp(0)

    def _whitened(self, x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
        """The standard normal's log-density (N,) of L⁻¹(x − m)."""
        return standard_normal(torch.linalg.solve_triangular(factor, (x - mean).t(), upper=False)).sum(0)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A component by a uniform number of each row, and a draw of it."""
        normal, uniform = noise
        passed = (self.log_weights.exp().cumsum(0) <= uniform[:, :1]).sum(1)
        chosen = passed.clamp_max(len(self.means) - 1)
        x = torch.empty_like(normal)
        for index, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            rows = chosen == index
            x[rows] = mean + normal[rows] @ factor.t()
        return x, self.density(x)


class MixtureFlow(Flow):
    """The density whose only part is `Gaussians`. It has no parameters to descend on."""

    transform: Gaussians

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__(dim, Gaussians(dim, options.components))
        self._options = options

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """The best on ``validation`` of those that the training rows give, in float64 on the CPU."""
        from sklearn.mixture import GaussianMixture  # takes a second to import

        rows, held = x[: self._options.fit_rows].cpu().double(), validation[: self._options.fit_rows].cpu().double()
        most, count = min(self._options.components, len(rows)), 1
        best, found = -torch.inf, None
        while count <= most:
            fitted = GaussianMixture(count, random_state=0, reg_covar=1e-6).fit(rows.numpy())
            reached = float(fitted.score(held.numpy()))
            if not reached > best:
                break
            best, found, count = reached, fitted, 2 * count
        assert found is not None
        own, size = self.transform, len(found.weights_)
        own.log_weights.fill_(-torch.inf)
        own.log_weights[:size] = torch.from_numpy(found.weights_).log()
        own.means[:size] = torch.from_numpy(found.means_)
        own.factors[:size] = torch.linalg.cholesky(torch.from_numpy(found.covariances_))


def build(dim: int, options: Options) -> Flow:
    """A mixture of Gaussians over rows of ``dim`` columns, a standard one until it is fitted."""
    return MixtureFlow(dim, options)
