"""The course of what is trained by draws from an approximation: timed, held against its own claims, and recorded."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from flowbench.config import Settings
from flowbench.console import warn
from flowbench.data.rows import Rows
from flowbench.results.record import Check
from flowbench.results.variational import PosteriorTiming
from flowbench.training import recording
from flowbench.training.course import Course, R
from flowbench.training.environment import environment
from flowbench.variational.approximation import ApproximationOrder
from flowbench.variational.posterior import Posterior
from flowbench.variational.timing import time_posterior


@dataclass
class BoundOutcome(recording.Outcome):
    """Of a bound that was climbed."""

    costs: list[PosteriorTiming] = field(default_factory=list)


class VariationalCourse(Course[R]):
    """What the courses of posteriors and of fits to targets have in common."""

    _outcome: BoundOutcome
    _command: ClassVar[tuple[str, str]]
    """The command, and its option that names what is approximated."""

    @abstractmethod
    def _approximation(self) -> Posterior:
        """What is drawn from."""

    @abstractmethod
    def _held(self, test: Rows) -> dict[str, Check]:
        """The closing checks."""

    @abstractmethod
    def _doubts(self) -> tuple[str, ...]:
        """What the figures should be doubted for."""

    def _refuse_too_large(self) -> None:
        """What is too large to build was refused there."""

    def _close(self, test: Rows) -> None:
        outcome = self._outcome
        outcome.costs = time_posterior(self._approximation(), test)
        outcome.checks, outcome.doubts = self._held(test), self._doubts()
        for doubt in outcome.doubts:
            warn(doubt)
        self._judge()

    def _goes_on_by(self) -> list[str]:
        assert self._keeping is not None
        order, (verb, of) = self._keeping.order, self._command
        assert isinstance(order, ApproximationOrder)
        return ["flowbench", verb, order.flow, of, order.data, *order.words]

    def _recorded(self, model: nn.Module, options: Settings) -> dict[str, Any]:
        """What every such record has; ``options`` are its settings beside the flow's and the training's."""
        config, outcome, flow = self._config, self._outcome, self._approximation().flow
        passes = (1, 1) if flow is None else (flow.transform.density_passes, flow.transform.sampling_passes)
        setup = recording.setup(config, self._dataset)
        return {
            "run": self._name,
            "status": outcome.status,
            "error": outcome.error,
            "task": recording.task_of(config.flow, self._dataset, model, passes),
            "setup": setup.model_copy(update={"config": setup.config | options.model_dump(mode="json")}),
            "training": recording.training(outcome),
            "checks": outcome.checks,
            "doubts": outcome.doubts,
            "costs": outcome.costs,
            "environment": environment(config.device, config.threads),
            "started_at": self._started,
            "total_seconds": time.perf_counter() - self._began,
        }
