"""One fit to a target, from a configuration to a record."""

from __future__ import annotations

from dataclasses import dataclass

from flowbench.data.rows import Rows
from flowbench.results.record import Check
from flowbench.results.variational import TargetFit, TargetRecord
from flowbench.training.needs import room_to_train
from flowbench.training.schedule import Schedule
from flowbench.training.sealed import sealed
from flowbench.variational import targets
from flowbench.variational.checks import densities
from flowbench.variational.course import BoundOutcome, VariationalCourse
from flowbench.variational.options import TargetConfig
from flowbench.variational.posterior import Posterior
from flowbench.variational.reverse_kl import ReverseKL
from flowbench.variational.target_evaluation import TargetEvaluation, against_truth, doubts_of, evaluate, figures
from flowbench.variational.target_order import build


@dataclass
class TargetOutcome(BoundOutcome):
    """Of a fit to a target."""

    evaluation: TargetEvaluation | None = None


class TargetCourse(VariationalCourse[TargetRecord]):
    """The course of a fit."""

    kind = TargetRecord
    _command = "fit-target", "--target"
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

    def _approximation(self) -> Posterior:
        return self._model.approximation

    def _evaluate(self, test: Rows) -> None:
        found = evaluate(self._model, test)
        self._outcome.evaluation, self._outcome.test_lls = found, found.log_weights

    def _held(self, test: Rows) -> dict[str, Check]:
        assert self._outcome.evaluation is not None
        return against_truth(self._outcome.evaluation, self._target.log_z) | densities(self._approximation(), test)

    def _doubts(self) -> tuple[str, ...]:
        assert self._outcome.evaluation is not None
        return doubts_of(self._outcome.evaluation, self._target.log_z)

    def _weights(self, status: str) -> bytes:
        return sealed(self._model.state_dict(), {"kind": "target", "config": self._config.model_dump_json()})

    def _record(self) -> TargetRecord:
        outcome = self._outcome
        found = {} if outcome.evaluation is None else figures(outcome.evaluation, self._target)
        return TargetRecord(
            **self._recorded(self._model, self._config.fitting),
            fit=TargetFit(validation_bound_nats=outcome.validation_ll_nats, steps=self._steps(), **found),
        )

    def _steps(self) -> int:
        """That were taken; time may have cut an epoch short."""
        batches = Schedule(self._config.training, len(self._dataset.train)).batches
        return sum(batch.stop <= epoch.rows for epoch in self._outcome.epochs for batch in batches)
