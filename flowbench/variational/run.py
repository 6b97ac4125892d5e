"""One posterior, from a configuration to a record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowbench.data.rows import Rows
from flowbench.results import statistics as stats
from flowbench.results.record import Check
from flowbench.results.variational import Bound, PosteriorRecord
from flowbench.seeds import stream
from flowbench.training import recording
from flowbench.training.needs import room_to_train
from flowbench.variational import saved
from flowbench.variational.bound import VariationalBound
from flowbench.variational.checks import densities
from flowbench.variational.course import BoundOutcome, VariationalCourse
from flowbench.variational.evaluation import Evaluation, bound_of, doubts_of, evaluate
from flowbench.variational.options import PosteriorConfig
from flowbench.variational.order import build
from flowbench.variational.posterior import Posterior

ABOVE = 1e-4
"""Nats that a mean bound may be above log p(x) beyond four standard errors: what single precision leaves."""


@dataclass
class PosteriorOutcome(BoundOutcome):
    """Of a posterior."""

    evaluation: Evaluation | None = None


class PosteriorCourse(VariationalCourse[PosteriorRecord]):
    """The course of a posterior's run."""

    kind = PosteriorRecord
    _command = "posterior", "--data"
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

    def _approximation(self) -> Posterior:
        return self._model.posterior

    def _evaluate(self, test: Rows) -> None:
        samples, seed = self._config.latent.importance_samples, stream(self._config.seed, "latents")
        found = evaluate(self._model, test, samples, seed)
        self._outcome.evaluation, self._outcome.test_lls = found, found.bound

    def _held(self, test: Rows) -> dict[str, Check]:
        found = self._outcome.evaluation
        assert found is not None
        lost = float(np.count_nonzero(~np.isfinite(found.bound)))
        held = {"not_finite": Check.of(lost, 0.0, "test rows without a finite bound")}
        return held | densities(self._model.posterior, test) | below_truth(found, self._dataset.test_true_ll)

    def _doubts(self) -> tuple[str, ...]:
        assert self._outcome.evaluation is not None
        attainable = self._dataset.test_true_ll if self._config.flow == "full-gaussian" else None
        return doubts_of(self._outcome.evaluation, attainable)

    def _weights(self, status: str) -> bytes:
        return saved.content(self._model, self._config, self._dataset.name, self._dataset.dim)

    def _record(self) -> PosteriorRecord:
        outcome, latent = self._outcome, self._config.latent
        found, validation = outcome.evaluation, outcome.validation_ll_nats
        truth = self._dataset.test_true_ll
        networks = f"{latent.networks} {'-'.join(map(str, latent.encoder)) or 'linear'}"
        return PosteriorRecord(
            **self._recorded(self._model, latent),
            networks=networks + (f", {latent.units} units" if latent.networks == "resnet" else ""),
            bound=bound_of(found, validation, truth) if found else Bound(validation_bound_nats=validation),
        )


def below_truth(found: Evaluation, truth: recording.Lls | None) -> dict[str, Check]:
    """The bound and the estimate of log p(x) held against the truth (N,), where it is known: both are below it."""
    if truth is None:
        return {}
    above = (stats.mean_and_stderr(each - np.asarray(truth)) for each in (found.bound, found.log_likelihood))
    what = "mean (bound or estimate - log p(x)) - 4 standard errors"
    return {"below_truth": Check.of(max(mean - 4 * stderr for mean, stderr in above), ABOVE, what)}
