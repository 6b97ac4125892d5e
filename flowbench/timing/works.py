"""What is timed of a flow: densities and samples as a user takes them, steps as training does them, and textbooks'."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.flows import Flow
from flowbench.training.step import Descent
from flowbench.transforms import Chain, Inverse, MaskedAutoregressive, Transform
from flowbench.transforms.transform import Pair

Work = Callable[[], object]


def evaluation(flow: Flow, rows: Tensor) -> dict[str, Work]:
    """Densities of ``rows`` (N, D), and as many samples, as a user takes them."""

    def evaluating(work: Work) -> Work:
        def run() -> object:
            if flow.training:
                flow.eval()
            with torch.no_grad():
                return work()

        return run

    return {
        "density": evaluating(lambda: flow.log_prob(rows)),
        "sampling": evaluating(lambda: flow.sample(len(rows))),
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


class ByPasses(Transform):
    """A masked autoregressive transform inverted as textbooks do, by D passes."""

    def __init__(self, transform: MaskedAutoregressive) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Pair:
        """The transform's own."""
        return self.transform(x)

    def inverse(self, u: Tensor) -> Pair:
        """D passes of the network."""
        return self.transform.inverse_by_passes(u)


def by_passes(flow: Flow) -> Flow | None:
    """The same flow, inverted by passes; None where nothing in it is autoregressive."""

    def textbook(transform: Transform) -> Transform:
        if isinstance(transform, MaskedAutoregressive):
            return ByPasses(transform)
        return Inverse(textbook(transform.transform)) if isinstance(transform, Inverse) else transform

    if not any(isinstance(module, MaskedAutoregressive) for module in flow.modules()):
        return None
    own = copy.deepcopy(flow).eval()  # its batch normalisation stays in evaluation, whatever the flow does meanwhile
    chain = own.transform if isinstance(own.transform, Chain) else [own.transform]
    return Flow(flow.dim, Chain(textbook(transform) for transform in chain)).to(flow.origin.device).eval()


def textbook_sampling(flow: Flow) -> bool:
    """Whether the textbook's passes are those of sampling; else they are those of the density."""
    return flow.transform.sampling_passes > 1
