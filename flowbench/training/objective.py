"""What a training climbs: maximum likelihood here; a variational bound or a reverse KL is another of the kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from flowbench.data.preparing.truth import LogDensity
from flowbench.data.rows import Rows
from flowbench.engines import Engine
from flowbench.flows import Flow
from flowbench.flows.core.density import class_averaged, log_likelihoods
from flowbench.training.calibration import begin, calibrate
from flowbench.training.checks import checks_seconds
from flowbench.training.clock import time_flow_seconds
from flowbench.training.duality import duality_seconds
from flowbench.training.sketching import sketch_seconds

SecondsOf = Callable[[Callable[[], object]], float]
"""The seconds that a piece of work takes, by doing it."""

ROWS = 2000
"""Rows of an evaluation's rehearsal."""


class Model(Protocol):
    """What `Descent` takes steps with: a module that knows the gradient of its loss. `Flow` is one."""

    engine: Engine | None
    training: bool

    def backpropagate(self, x: Tensor, /) -> Tensor:
        """The loss () of rows (N, D), of which training takes the least; its gradient is left in ``grad``, in place."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """As `nn.Module`'s."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module`'s."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As `nn.Module`'s."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """As `nn.Module`'s."""
        ...

    def train(self, mode: bool = True) -> Any:
        """As `nn.Module`'s."""
        ...

    def eval(self) -> Any:
        """As `nn.Module`'s."""
        ...


class Objective(Protocol):
    """A model, and what is measured of it by the way. Values are means over rows, in nats; the greatest is the best."""

    @property
    def model(self) -> Model:
        """What is trained."""
        ...

    def begin(self, rows: Rows, validation: Rows) -> None:
        """Set what has a solution in closed form, and where the training rows (N, D) say to begin."""
        ...

    def settle(self, rows: Rows) -> None:
        """Give the model what it takes of all training rows before it is evaluated."""
        ...

    def value(self, validation: Rows) -> float:
        """What an epoch is chosen by: the same of the same weights, whatever was drawn before."""
        ...

    def culprit(self, rows: Tensor) -> str | None:
        """The first part that makes something not finite of a step's rows; None: none on the way there."""
        ...

    def closing_seconds(self, test: Rows, seconds_of: SecondsOf) -> float:
        """What is to be done once training has ended takes so long."""
        ...


class MaximumLikelihood:
    """The mean log-density of rows: the same as the least KL(data ‖ flow).

    ``truth`` is their true log-density where it is known and will be held against the flow's once training has ended.
    """

    def __init__(self, flow: Flow, truth: LogDensity | None = None) -> None:
        self.model, self._truth = flow, truth

    def begin(self, rows: Rows, validation: Rows) -> None:
        """See `Objective.begin`."""
        self.model.fit_closed_form(rows, validation)
        begin(self.model, rows)

    def settle(self, rows: Rows) -> None:
        """Calibrate what wants the statistics of all training rows."""
        calibrate(self.model, rows)

    def value(self, validation: Rows) -> float:
        """The mean log-likelihood."""
        return float(log_likelihoods(self.model, validation).mean())

    @torch.no_grad()
    def culprit(self, rows: Tensor) -> str | None:
        """The transform."""
        flow = self.model.parts[0]
        for index, (leaf, _) in enumerate(flow.transform.leaves()):
            rows, log_det = flow.moved_by(index, rows)
            if not (rows.isfinite().all() and log_det.isfinite().all()):
                return f"transform {index} ({type(leaf).__name__})"
        return None

    def closing_seconds(self, test: Rows, seconds_of: SecondsOf) -> float:
        """The test rows' likelihoods, times, checks, the sketch, and what is held against the truth."""
        flow = self.model
        test_rows = sum(seconds_of(lambda: of(flow, test[:ROWS])) for of in (log_likelihoods, class_averaged))  # noqa: B023
        test_rows *= max(1.0, len(test) / ROWS)
        times = time_flow_seconds(flow, test, seconds_of)
        checked = checks_seconds(flow, test, seconds_of)
        if self._truth is not None:
            checked += duality_seconds(flow, test, self._truth, seconds_of)
        return test_rows + times + checked + sketch_seconds(flow, test, seconds_of)
