"""Ensembles: the mean of exact densities is an exact density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Generator, Tensor, nn

from flowbench.data.rows import Rows
from flowbench.flows.core.flow import Flow
from flowbench.transforms import Undirected


class Ensemble(Flow):
    """p(x) = (1/K) Σ_k p_k(x): K flows over the same columns, trained together on the likelihood of their mean.

    As MADE's ensemble over orders (Germain et al. 2015, §4.2), but each order has weights of its own. A draw is one of
    a flow chosen at random, a density takes all of them.
    """

    def __init__(self, flows: Sequence[Flow]) -> None:
        first = flows[0]
        super().__init__(first.dim, Undirected(), first.engine)
        self.flows = nn.ModuleList(flows)
        self.transform.density_passes = sum(flow.transform.density_passes for flow in flows)
        self.transform.sampling_passes = max(flow.transform.sampling_passes for flow in flows)

    @property
    def parts(self) -> list[Flow]:
        """Its K flows."""
        return cast("list[Flow]", list(self.flows))

    @property
    def columns(self) -> int:
        """Of a row: G + D."""
        return self.parts[0].columns

    def forward(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, G + D) in nats."""
        return torch.stack([flow(x) for flow in self.parts]).logsumexp(0) - math.log(len(self.flows))

    def backpropagate(self, x: Tensor) -> Tensor:
        """As `Flow.backpropagate`: each flow descends on a row by its share of that row's density."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()  # in place: it may be part of what an optimizer holds
        with torch.enable_grad():
            loss = -self(x).mean() if len(x) else self(x).sum()
        loss.backward()
        return loss.detach()

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """The random numbers (draws + 1, n, D) of n draws: the last, uniform ones choose the flow."""
        own = self.parts[0].noise(n, generator)
        chosen = torch.empty_like(own[:1]).uniform_(generator=generator)
        return torch.cat([own, chosen])

    def drawn(self, noise: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws (n, G + D) of random numbers as ``noise`` makes them, and their log-densities (n,) in nats."""
        chosen = (noise[-1, :, 0] * len(self.flows)).long()
        x = noise.new_empty(noise.shape[1], self.columns)
        for k, flow in enumerate(self.parts):
            rows = (chosen == k).nonzero()[:, 0]
            x[rows] = flow.drawn(noise[:-1, rows], None if given is None else given[rows])[0]
        return x, self(x)

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """That of each flow."""
        for flow in self.parts:
            flow.fit_closed_form(x, validation)
