"""A density of classes and numbers: the classes' own mass, times a flow of the numbers that is given the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from flowbench.data.rows import Rows
from flowbench.flows.core.categories import Categories
from flowbench.flows.core.flow import Flow
from flowbench.flows.core.given import Given
from flowbench.transforms import Undirected, beside, standard_normal


class Tabular(Flow):
    """p(c, x | g) = p(c | g)·p(x | g, c) / Π N(x_j; 0, 1) over the numbers x_j that are absent.

    Rows are (N, G + C + D): what is given, codes c, numbers x. Some codes tell that a number is absent (0: it is
    there); a draw of N(0, 1) then stands in its place. To take its density off again makes the likelihood a lower bound
    in the mean, log p(c, x_there) ≥ E[log p(c, x) − Σ log N(x_j)], tight as soon as the flow has learned that what
    stands there is that noise: the bound is that of dequantisation (Theis et al. 2016), with another noise.

    Args:
        numbers: a flow of the D numbers, given G + C columns.
        categories: the mass of the codes, given G columns.
        tells_of: of each of the C codes the number that is absent where it is not 0, or None.
    """

    def __init__(self, numbers: Flow, categories: Categories, tells_of: Sequence[int | None]) -> None:
        super().__init__(numbers.dim, Undirected(), numbers.engine)
        self.numbers, self.categories = numbers, categories
        self.tells_of = tuple(tells_of)
        # what is given to both has no weights of its own
        self.__dict__["given"] = Given(categories.given) if categories.given else None
        self.transform.density_passes = numbers.transform.density_passes
        self.transform.sampling_passes = numbers.transform.sampling_passes
        self._telling = [place for place, column in enumerate(self.tells_of) if column is not None]
        self._told = [column for column in self.tells_of if column is not None]

    @property
    def parts(self) -> list[Flow]:
        """Those of the flow of the numbers."""
        return self.numbers.parts

    @property
    def columns(self) -> int:
        """Of a row: G + C + D."""
        return self.numbers.columns

    def apart(self, rows: Tensor) -> tuple[Tensor | None, Tensor]:
        """What is given (N, G), None where nothing is, and codes and numbers (N, C + D)."""
        first = len(self.categories.given)
        return (rows[:, :first], rows[:, first:]) if first else (None, rows)

    def forward(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, G + C + D) in nats."""
        given, codes, _ = self._in_three(x)
        return self.categories.log_prob(codes, given) + self.numbers(x) - self._log_fill(x)

    def backpropagate(self, x: Tensor) -> Tensor:
        """As `Flow.backpropagate`, of both parts."""
        given, codes, _ = self._in_three(x)
        fill = self._log_fill(x).mean() if len(x) else 0
        return self.numbers.backpropagate(x) + self.categories.backpropagate(codes, given) + fill

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """The random numbers (draws, n, C + D) of n draws: those of the codes are standard normal."""
        own = self.numbers.noise(n, generator)
        codes = own.new_zeros(len(own), n, len(self.tells_of))
        codes[0].normal_(generator=generator)
        return torch.cat([codes, own], 2)

    def drawn(self, noise: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws (n, G + C + D) of random numbers as ``noise`` makes them, and their log-densities (n,) in nats."""
        x = self.draws(noise, given)
        return x, self(x)

    def draws(self, noise: Tensor, given: Tensor | None = None) -> Tensor:
        """As ``drawn``, the draws alone."""
        self._refuse_nothing_given(given)
        count = len(self.tells_of)
        codes = self.categories.draw(torch.special.ndtr(noise[0, :, :count]), given)
        return self.numbers.draws(noise[:, :, count:], beside(given, codes))

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """The codes' frequencies, and what of the numbers' flow has a closed form."""
        first = self.columns - self.dim
        codes = [part[:, len(self.categories.given) : first] for part in x.split(1 << 16)]
        self.categories.begin(torch.cat(codes))
        self.numbers.fit_closed_form(x, validation)

    def _in_three(self, x: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """What is given (N, G), None where nothing is; the codes (N, C); and the numbers (N, D)."""
        given, own = self.apart(x)
        codes, numbers = own.split([len(self.tells_of), self.dim], 1)
        return given, codes, numbers

    def _log_fill(self, x: Tensor) -> Tensor:
        """The log-density (N,) of what stands in for absent numbers."""
        _, codes, numbers = self._in_three(x)
        absent = codes[:, self._telling] != 0
        return torch.where(absent, standard_normal(numbers[:, self._told]), 0).sum(1)
