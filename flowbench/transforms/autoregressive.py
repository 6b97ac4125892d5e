"""The masked autoregressive transform: one univariate map a column, its parameters computed from the columns before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowbench.transforms.made import MADE
from flowbench.transforms.network import Body
from flowbench.transforms.plan import MaskedConstants, MaskedPlan
from flowbench.transforms.substitution import substitute
from flowbench.transforms.transform import LEAST_VARIANCE, Pair, WithStart, beside
from flowbench.transforms.univariate import Univariate

Pass = Callable[[Tensor, Tensor], Pair]
"""A run of the network at x (N, D), and the inverse of all columns' maps: of x and u f⁻¹(u; θ(x)), its log_det (N,)."""


class MaskedAutoregressive(WithStart):
    """u_i = f(x_i; θ_i(x_<i)), with θ from a MADE (MAF paper, eqs. 3–5, when f is affine).

    Forward is one pass of the network. Inverse is D passes in the textbook, and one by substitution. Of a ``context``
    of so many numbers, if there is one, all columns may depend.
    """

    density_passes = 1
    reach = "before"

    def __init__(self, dim: int, body: Body, univariate: Univariate, context: int = 0) -> None:
        super().__init__()
        self.conditioner = MADE(dim, body, univariate, context)
        self.univariate = univariate
        self.sampling_passes = dim
        self.context = context
        self.draws = univariate.draws

    def begin(self, mean: Tensor, variance: Tensor) -> None:
        """Have each column's map begin where the rows that arrive say, if it has such a place."""
        scale = variance.clamp(min=LEAST_VARIANCE).sqrt()
        start = self.univariate.start(mean.to(self.conditioner.flat), scale.to(self.conditioner.flat))
        self.conditioner.begin(start.t().flatten())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """u_i = f(x_i; θ_i(x_<i)), log_det = Σ log|∂f/∂x_i|."""
        u, log_derivative = self.by_column(x, context)
        return u, log_derivative.sum(-1)

    def by_column(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """u_i = f(x_i; θ_i(x_<i)), and log|∂f/∂x_i| (N, D)."""
        return self.univariate.forward(x, self.conditioner.parameters_of(beside(context, x)))

    def log_densities(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x_i | x_<i) (N, D) in nats, of columns that are standard normal once they are mapped."""
        return self.univariate.density(x, self.conditioner.parameters_of(beside(context, x)))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> Pair:
        """x_i = f⁻¹(u_i; θ_i(x_<i)), column by column, each weight used once: by `substitution`."""
        return substitute(self.conditioner, u, context)

    def inverse_by_passes(self, u: Tensor, context: Tensor | None = None, one_pass: Pass | None = None) -> Pair:
        """The textbook inverse, D passes of the network: the reference that substitution is held against.

        ``one_pass`` is how one is taken, by default as it is written.
        """
        x, one_pass = torch.zeros_like(u), one_pass or self.written_pass(context)
        for _ in range(self.conditioner.dim):
            # pass k makes column k final: it needs the k − 1 columns before it, which already are
            x, log_det = one_pass(x, u)
        return x, log_det

    def inverse_by_jacobi(
        self, u: Tensor, tolerance: float, context: Tensor | None = None, one_pass: Pass | None = None
    ) -> tuple[Tensor, Tensor, int]:
        """Passes until no column of any row changes by more than ``tolerance``·(1 + |x|), D at the most.

        Song et al. 2021, "Accelerating feedforward computation via parallel nonlinear equation solving": the fixed
        point of x = f⁻¹(u; θ(x)) by Jacobi's iteration from x = 0. After D passes it is exact, as pass k makes column k
        final; a small change before that is a sign of a small error, and no bound on it.

        Returns x (N, D), log|det ∂x/∂u| (N,) and the number of passes.
        """
        x, one_pass = torch.zeros_like(u), one_pass or self.written_pass(context)
        passes, settled = 0, False
        while not settled and passes < self.conditioner.dim:
            before, passes = x, passes + 1
            x, log_det = one_pass(x, u)
            settled = bool(((x - before).abs() <= tolerance * (1 + x.abs())).all())  # what is no number never is
        return x, log_det, passes

    def written_pass(self, context: Tensor | None = None) -> Pass:
        """A pass as its equations are written."""
        layers = self.conditioner.layers()

        def one_pass(x: Tensor, u: Tensor) -> Pair:
            theta = self.conditioner.parameters_of(beside(context, x), layers)
            moved, log_derivative = self.univariate.inverse(u, theta)
            return moved, log_derivative.sum(-1)

        return one_pass

    @property
    def plan(self) -> MaskedPlan:
        """The conditioner's, with the univariate map."""
        return self.conditioner.masked_plan

    def weights(self) -> list[Tensor]:
        """The conditioner's weights and biases."""
        return [self.conditioner.flat]

    def constants(self) -> MaskedConstants:
        """Masks of gradients, and the places that a kernel reads where the network lies."""
        made = self.conditioner
        return MaskedConstants(made.masks, made.starts, made.biases, made.visible)
