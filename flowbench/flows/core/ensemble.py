"""Ensembles: the mean of exact densities is an exact density."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Generator, Tensor, nn

from flowbench.data.rows import Rows
from flowbench.flows.core.flow import Flow, by_autograd
from flowbench.transforms import Chain, Pair, Transform, Undirected, beside


class Ensemble(Flow):
    """p(x) = (1/KV) Σ_k Σ_v p_k(v(x))·|det ∂v/∂x|: the mean over K flows, and over V views of the rows.

    The flows are trained together, on the likelihood of their mean: as MADE's ensemble over orders (Germain et al.
    2015, §4.2), but each order has weights of its own. Views are of one model: transforms without parameters,
    symmetries that the data have but a model of it not quite. A density takes all of them and in training each batch
    one, chosen at random, so they cost nothing there. A draw is one of a flow and a view chosen at random.
    """

    def __init__(self, flows: Sequence[Flow], views: Sequence[Transform] = ()) -> None:
        first = flows[0]
        super().__init__(first.dim, Undirected(), first.engine)
        self.__dict__["given"] = first.given  # not as a part of this module: it is one of the first flow's
        self.flows, self.views = nn.ModuleList(flows), nn.ModuleList(views or [Chain([])])
        self.transform.density_passes = len(self.views) * sum(flow.transform.density_passes for flow in flows)
        self.transform.sampling_passes = max(flow.transform.sampling_passes for flow in flows)

    @property
    def parts(self) -> list[Flow]:
        """Its K flows."""
        return cast("list[Flow]", list(self.flows))

    def forward(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, G + D) in nats; in training, that of one view."""
        found = [flow(seen) + log_det for seen, log_det in self._seen(x) for flow in self.parts]
        return torch.stack(found).logsumexp(0) - math.log(len(found))

    def _seen(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows in each view, or in training in one of them, and the log-determinants (N,)."""
        given, own = self.apart(x)
        found: Iterable[Pair] = (view(own) for view in self._views())
        if self.training and len(self.views) > 1:
            # on the rows' device: a step may be replayed there, and is to draw anew each time
            chosen = torch.randint(len(self.views), (1,), device=x.device)
            seen, log_det = (torch.stack(each).index_select(0, chosen)[0] for each in zip(*found, strict=True))
            found = [(seen, log_det)]
        for seen, log_det in found:
            yield beside(given, seen), log_det

    def _views(self) -> list[Transform]:
        return cast("list[Transform]", list(self.views))

    def backpropagate(self, x: Tensor) -> Tensor:
        """As `Flow.backpropagate`: each flow descends on a row by its share of that row's density."""
        if self.training and len(self.flows) == 1:
            ((seen, log_det),) = self._seen(x)
            return self.parts[0].backpropagate(seen) - (log_det.mean() if len(x) else 0)
        return by_autograd(self, lambda: -self(x).mean() if len(x) else self(x).sum())

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """The random numbers (draws + 1, n, D) of n draws: the last, uniform ones choose flow and view."""
        own = self.parts[0].noise(n, generator)
        chosen = torch.empty_like(own[:1]).uniform_(generator=generator)
        return torch.cat([own, chosen])

    def drawn(self, noise: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws (n, G + D) of random numbers as ``noise`` makes them, and their log-densities (n,) in nats."""
        x = self.draws(noise, given)
        return x, self(x)

    def draws(self, noise: Tensor, given: Tensor | None = None) -> Tensor:
        """As ``drawn``, the draws alone."""
        members = [(flow, view) for flow in self.parts for view in self._views()]
        chosen = (noise[-1, :, 0] * len(members)).long()
        x = noise.new_empty(noise.shape[1], self.columns)
        for index, (flow, view) in enumerate(members):
            rows = (chosen == index).nonzero()[:, 0]
            before, own = self.apart(flow.draws(noise[:-1, rows], None if given is None else given[rows]))
            x[rows] = beside(before, view.inverse(own)[0])
        return x

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """That of each flow."""
        for flow in self.parts:
            flow.fit_closed_form(x, validation)
