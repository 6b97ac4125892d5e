"""One fit to a target, from a configuration to a record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flowbench.console import warn
from flowbench.data.rows import Rows
from flowbench.results.variational import PosteriorTiming, TargetFit, TargetRecord
from flowbench.training import recording
from flowbench.training.course import Course
from flowbench.training.environment import environment
from flowbench.training.needs import room_to_train
from flowbench.training.schedule import Schedule
from flowbench.training.sealed import sealed
from flowbench.variational import targets
from flowbench.variational.checks import densities
from flowbench.variational.options import TargetConfig
from flowbench.variational.reverse_kl import ReverseKL
from flowbench.variational.target_evaluation import TargetEvaluation, against_truth, doubts_of, evaluate, figures
from flowbench.variational.target_order import TargetOrder, build
from flowbench.variational.timing import time_posterior


@dataclass
class TargetOutcome(recording.Outcome):
    """Of a fit to a target."""

    evaluation: TargetEvaluation | None = None
    costs: list[PosteriorTiming] = field(default_factory=list)


class TargetCourse(Course[TargetRecord]):
    """The course of a fit."""

    kind = TargetRecord
    _outcome: TargetOutcome
    _config: TargetConfig

    def _nothing_yet(self) -> TargetOutcome:
        return TargetOutcome()

    def _build(self) -> ReverseKL:
        config = self._config
        self._target = targets.load(self._dataset.name.removeprefix("target-"))
        with room_to_train(config.device):
            model = build(config, self._target)
        self._model = model.to(config.device)
        return ReverseKL(self._model)

    def _refuse_too_large(self) -> None:
        """What is too large to build was refused there."""

    def _evaluate(self, test: Rows) -> None:
        found = evaluate(self._model, test)
        self._outcome.evaluation, self._outcome.test_lls = found, found.log_weights

    def _close(self, test: Rows) -> None:
        outcome, target, approximation = self._outcome, self._target, self._model.approximation
        assert outcome.evaluation is not None
        outcome.costs = time_posterior(approximation, test)
        outcome.checks = against_truth(outcome.evaluation, target.log_z) | densities(approximation, test)
        outcome.doubts = doubts_of(outcome.evaluation, target.log_z)
        for doubt in outcome.doubts:
            warn(doubt)
        self._judge()

    def _goes_on_by(self) -> list[str]:
        assert self._keeping is not None
        order = self._keeping.order
        assert isinstance(order, TargetOrder)
        return ["flowbench", "fit-target", order.flow, "--target", order.data, *order.words]

    def _weights(self, status: str) -> bytes:
        return sealed(self._model.state_dict(), {"kind": "target", "config": self._config.model_dump_json()})

    def _record(self) -> TargetRecord:
        config, outcome, flow = self._config, self._outcome, self._model.approximation.flow
        passes = (1, 1) if flow is None else (flow.transform.density_passes, flow.transform.sampling_passes)
        setup = recording.setup(config, self._dataset)
        found = {} if outcome.evaluation is None else figures(outcome.evaluation, self._target)
        return TargetRecord(
            run=self._name,
            status=outcome.status,
            error=outcome.error,
            task=recording.task_of(config.flow, self._dataset, self._model, passes),
            setup=setup.model_copy(update={"config": setup.config | config.fitting.model_dump(mode="json")}),
            training=recording.training(outcome),
            fit=TargetFit(validation_bound_nats=outcome.validation_ll_nats, steps=self._steps(), **found),
            checks=outcome.checks,
            doubts=outcome.doubts,
            costs=outcome.costs,
            environment=environment(config.device, config.threads),
            started_at=self._started,
            total_seconds=time.perf_counter() - self._began,
        )

    def _steps(self) -> int:
        """That were taken; time may have cut an epoch short."""
        batches = Schedule(self._config.training, len(self._dataset.train)).batches
        return sum(batch.stop <= epoch.rows for epoch in self._outcome.epochs for batch in batches)
