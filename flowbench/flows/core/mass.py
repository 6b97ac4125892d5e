"""The probability of values that come in steps: an autoregressive density integrated over each value's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from flowbench.data.rows import Rows
from flowbench.errors import UsageError
from flowbench.flows.core.flow import Flow, by_autograd
from flowbench.transforms import MaskedAutoregressive, Undirected, beside


class Mass(Flow):
    """Π_i p(x_i | x_<i), where a column with steps s has its mass on (x_i − s/2, x_i + s/2) in its density's place.

    Each conditional of one masked autoregressive transform has a CDF, Φ(u(x_i)), so that the mass is exact: no noise is
    added, and what is reported is the log-probability of the values themselves (with uniform noise it is a lower bound;
    Theis et al. 2016, §3.1). Rows (N, G + D) have the middles of steps. The conditionals are given what rows have, so
    a draw takes a pass for each column, in which it is put to the middle of its step.

    Args:
        flow: of one `MaskedAutoregressive` and no more.
        steps: the width of each column's step in the flow's space, 0 where it is continuous.
        origins: the middle of one of each column's steps.

    Raises:
        UsageError: the flow is another one.
    """

    steps: Tensor
    origins: Tensor

    def __init__(self, flow: Flow, steps: Sequence[float], origins: Sequence[float]) -> None:
        leaves = list(flow.transform.leaves())
        if len(leaves) != 1 or not isinstance(leaves[0][0], MaskedAutoregressive) or leaves[0][1]:
            raise UsageError(
                "a probability mass takes a flow of one masked autoregressive transform and no more",
                "there are made, made-mog, resmade-mog, and maf with transforms=1 and batch_norm=false",
            )
        super().__init__(flow.dim, Undirected(), flow.engine)
        self.flow = flow
        self.__dict__["given"] = flow.given
        self.transform.density_passes, self.transform.sampling_passes = 1, flow.dim
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float32), persistent=False)
        self.register_buffer("origins", torch.tensor(origins, dtype=torch.float32), persistent=False)

    @property
    def parts(self) -> list[Flow]:
        """The flow of which it is made."""
        return [self.flow]

    def forward(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, G + D) in nats, with steps counted."""
        given, own = self.apart(x)
        theta = self._theta(given, own)
        univariate = self._autoregressive.univariate
        half = self.steps / 2
        masses = univariate.log_mass(own - half, own + half, theta)
        return torch.where(self.steps > 0, masses, univariate.density(own, theta)).sum(1)

    def backpropagate(self, x: Tensor) -> Tensor:
        """As `Flow.backpropagate`, by autograd."""
        return by_autograd(self, lambda: -self(x).mean() if len(x) else self(x).sum())

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """That of the flow."""
        return self.flow.noise(n, generator)

    def drawn(self, noise: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws (n, G + D) of random numbers as ``noise`` makes them, and their log-densities (n,) in nats."""
        x = self.draws(noise, given)
        return x, self(x)

    @torch.no_grad()
    def draws(self, noise: Tensor, given: Tensor | None = None) -> Tensor:
        """As ``drawn``, the draws alone."""
        self._refuse_nothing_given(given)
        x = torch.zeros_like(noise[0])
        for column in range(self.dim):
            theta = self._theta(given, x)
            drawn = self._autoregressive.univariate.draw(noise, theta)[:, column]
            step = self.steps[column]
            if step > 0:
                drawn = self.origins[column] + torch.round((drawn - self.origins[column]) / step) * step
            x[:, column] = drawn
        return beside(given, x)

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """That of the flow."""
        self.flow.fit_closed_form(x, validation)

    @property
    def _autoregressive(self) -> MaskedAutoregressive:
        """Its transform, wherever the flow was copied or moved to."""
        ((leaf, _),) = self.flow.transform.leaves()
        assert isinstance(leaf, MaskedAutoregressive)
        return leaf

    def _theta(self, given: Tensor | None, own: Tensor) -> Tensor:
        """θ (P, N, D) of all columns."""
        context = None if self.given is None or given is None else self.given(given)
        return self._autoregressive.conditioner.parameters_of(beside(context, own))
