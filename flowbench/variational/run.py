"""One posterior, from a configuration to a record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from flowbench.console import warn
from flowbench.data.rows import Rows
from flowbench.results import statistics as stats
from flowbench.results.record import Check, Task
from flowbench.results.variational import Bound, PosteriorRecord, PosteriorTiming
from flowbench.seeds import stream
from flowbench.training import recording
from flowbench.training.course import Course
from flowbench.training.environment import environment
from flowbench.training.needs import room_to_train
from flowbench.variational import saved
from flowbench.variational.bound import LatentModel, VariationalBound
from flowbench.variational.checks import densities
from flowbench.variational.evaluation import Evaluation, bound_of, doubts_of, evaluate
from flowbench.variational.options import PosteriorConfig
from flowbench.variational.order import PosteriorOrder, build
from flowbench.variational.timing import time_posterior

ABOVE = 1e-4
"""Nats that a mean bound may be above log p(x) beyond four standard errors: what single precision leaves."""


@dataclass
class PosteriorOutcome(recording.Outcome):
    """Of a posterior."""

    evaluation: Evaluation | None = None
    costs: list[PosteriorTiming] = field(default_factory=list)


class PosteriorCourse(Course[PosteriorRecord]):
    """The course of a posterior's run."""

    kind = PosteriorRecord
    _outcome: PosteriorOutcome
    _config: PosteriorConfig

    def _nothing_yet(self) -> PosteriorOutcome:
        return PosteriorOutcome()

    def _build(self) -> VariationalBound:
        config = self._config
        with room_to_train(config.device):
            model = build(config, self._dataset.name, self._dataset.dim)
        self._model = model.to(config.device)
        # validation rows are the same, and so is what is drawn for them, whatever the seed
        return VariationalBound(self._model, config.latent.importance_samples, stream(0, "latents"))

    def _refuse_too_large(self) -> None:
        """What is too large to build was refused there."""

    def _evaluate(self, test: Rows) -> None:
        samples, seed = self._config.latent.importance_samples, stream(self._config.seed, "latents")
        found = evaluate(self._model, test, samples, seed)
        self._outcome.evaluation, self._outcome.test_lls = found, found.bound

    def _close(self, test: Rows) -> None:
        outcome = self._outcome
        assert outcome.evaluation is not None
        outcome.costs = time_posterior(self._model.posterior, test)
        outcome.checks = checks(self._model, test, outcome.evaluation, self._dataset.test_true_ll)
        truth = self._dataset.test_true_ll
        outcome.doubts = doubts_of(outcome.evaluation, truth if self._config.flow == "full-gaussian" else None)
        for doubt in outcome.doubts:
            warn(doubt)
        self._judge()

    def _goes_on_by(self) -> list[str]:
        keeping = self._keeping
        assert keeping is not None
        order = keeping.order
        assert isinstance(order, PosteriorOrder)
        return ["flowbench", "posterior", order.flow, "--data", order.data, *order.words]

    def _weights(self, status: str) -> bytes:
        return saved.content(self._model, self._config, self._dataset.name, self._dataset.dim)

    def _record(self) -> PosteriorRecord:
        config, dataset, outcome = self._config, self._dataset, self._outcome
        found, validation = outcome.evaluation, outcome.validation_ll_nats
        truth = None if dataset.test_true_ll is None else np.asarray(dataset.test_true_ll)
        latent = config.latent
        networks = f"{latent.networks} {'-'.join(map(str, latent.encoder)) or 'linear'}"
        setup = recording.setup(config, dataset)
        return PosteriorRecord(
            run=self._name,
            status=outcome.status,
            error=outcome.error,
            task=self._task(),
            setup=setup.model_copy(update={"config": setup.config | latent.model_dump(mode="json")}),
            networks=networks + (f", {latent.units} units" if latent.networks == "resnet" else ""),
            training=recording.training(outcome),
            bound=bound_of(found, validation, truth) if found else Bound(validation_bound_nats=validation),
            checks=outcome.checks,
            doubts=outcome.doubts,
            costs=outcome.costs,
            environment=environment(config.device, config.threads),
            started_at=self._started,
            total_seconds=time.perf_counter() - self._began,
        )

    def _task(self) -> Task:
        flow = self._model.posterior.flow
        return recording.task_of(
            self._config.flow,
            self._dataset,
            self._model,
            (1, 1) if flow is None else (flow.transform.density_passes, flow.transform.sampling_passes),
        )


def checks(model: LatentModel, rows: Rows, found: Evaluation, truth: recording.Lls | None) -> dict[str, Check]:
    """A posterior against its own claims on test ``rows`` (N, D), and its bound against the truth (N,), if known."""
    lost = float(np.count_nonzero(~np.isfinite(found.bound)))
    held = {"not_finite": Check.of(lost, 0.0, "test rows without a finite bound")}
    held |= densities(model.posterior, rows)
    if truth is not None:
        above = (stats.mean_and_stderr(each - truth) for each in (found.bound, found.log_likelihood))
        what = "mean (bound or estimate - log p(x)) - 4 standard errors"
        held["below_truth"] = Check.of(max(mean - 4 * stderr for mean, stderr in above), ABOVE, what)
    return held
