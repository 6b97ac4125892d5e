"""What is timed of a flow: densities and samples as a user takes them, steps as training does them, and textbooks'."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines import choose
from flowbench.flows import Flow
from flowbench.results.costs import InverseName, PassName
from flowbench.timing.passes import FastestPass
from flowbench.training.step import Descent
from flowbench.transforms import Chain, Inverse, MaskedAutoregressive, Transform
from flowbench.transforms.autoregressive import Pass
from flowbench.transforms.transform import Pair

Work = Callable[[], object]


def evaluation(flow: Flow, rows: Tensor) -> dict[str, Work]:
    """Densities of ``rows`` (N, G + D), and as many samples, as a user takes them."""

    def evaluating(work: Work) -> Work:
        def run() -> object:
            if flow.training:
                flow.eval()
            with torch.no_grad():
                return work()

        return run

    given, _ = flow.apart(rows)
    return {
        "density": evaluating(lambda: flow.log_prob(rows)),
        "sampling": evaluating(lambda: flow.sample(len(rows), given=given)),
    }


def works(flow: Flow, rows: Tensor) -> dict[str, Work]:
    """``evaluation``, and where there is something to train a step on ``rows``, at a rate that changes little."""
    found = evaluation(flow, rows)
    if any(parameter.requires_grad for parameter in flow.parameters()):
        descent = Descent(flow, TrainingOptions.model_validate({}))

        def step() -> None:
            if not flow.training:
                flow.train()
            descent.step(rows, 1e-6)

        found["step"] = step
    return found


@dataclass(frozen=True)
class Way:
    """Another way than substitution to invert a masked autoregressive transform; ``tolerance`` is that of Jacobi's."""

    name: InverseName
    tolerance: float | None = None

    def invert(self, transform: MaskedAutoregressive, u: Tensor, one_pass: Pass) -> tuple[Tensor, Tensor, int]:
        """x (N, D), log|det ∂x/∂u| (N,), and how many passes of the network they took."""
        if self.tolerance is not None:
            return transform.inverse_by_jacobi(u, self.tolerance, one_pass=one_pass)
        return *transform.inverse_by_passes(u, one_pass=one_pass), transform.sampling_passes

    def title(self, dim: int) -> str:
        """As a table of a flow over ``dim`` columns names it."""
        return f"{dim} passes" if self.tolerance is None else f"{self.name} to {self.tolerance:g}"


class Inverted(Transform):
    """A masked autoregressive transform inverted in another way, by the ``fastest`` pass; its weights stay as they are.

    ``passes`` is what the last inverse took.
    """

    def __init__(self, transform: MaskedAutoregressive, way: Way, fastest: FastestPass) -> None:
        super().__init__()
        self.transform, self.way, self.fastest, self.passes = transform, way, fastest, 0
        self._pass: Pass | None = None

    def forward(self, x: Tensor) -> Pair:
        """The transform's own."""
        return self.transform(x)

    def inverse(self, u: Tensor) -> Pair:
        """Passes of the network."""
        self._pass = self._pass or self.fastest.of(self.transform, u)
        x, log_det, self.passes = self.way.invert(self.transform, u, self._pass)
        return x, log_det


def inverted_by(flow: Flow, way: Way) -> Flow | None:
    """The same flow, inverted in another way; None where nothing in it is autoregressive."""
    fastest = FastestPass(flow.engine or choose(flow.origin))

    def other(transform: Transform) -> Transform:
        if isinstance(transform, MaskedAutoregressive):
            return Inverted(transform, way, fastest)
        return Inverse(other(transform.transform)) if isinstance(transform, Inverse) else transform

    if not any(isinstance(module, MaskedAutoregressive) for module in flow.modules()):
        return None
    own = copy.deepcopy(flow).eval()  # its batch normalisation stays in evaluation, whatever the flow does meanwhile
    chain = own.transform if isinstance(own.transform, Chain) else [own.transform]
    return Flow(flow.dim, Chain(other(transform) for transform in chain)).to(flow.origin.device).eval()


def passes_taken(flow: Flow) -> tuple[float, PassName | None]:
    """The passes that the last inverse of a flow `inverted_by` another way took, the mean over its transforms.

    And how each was taken.
    """
    inverted = [module for module in flow.modules() if isinstance(module, Inverted)]
    return statistics.fmean(module.passes for module in inverted), inverted[0].fastest.name


def textbook_sampling(flow: Flow) -> bool:
    """Whether the textbook's passes are those of sampling; else they are those of the density."""
    return flow.transform.sampling_passes > 1
