"""One run by maximum likelihood, from a configuration to a record."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from flowbench import flows
from flowbench.config import RunConfig
from flowbench.console import warn
from flowbench.data import Dataset, true_log_density
from flowbench.data.rows import Rows
from flowbench.errors import reason_of, shortage
from flowbench.flows.core.density import Density, class_averaged, log_likelihoods
from flowbench.progress import Progress
from flowbench.results.record import RunRecord
from flowbench.results.sketch import Sketch
from flowbench.seeds import stream
from flowbench.training import recording, weights
from flowbench.training.checks import checks
from flowbench.training.clock import time_flow
from flowbench.training.course import Course, Keeping
from flowbench.training.doubts import doubts
from flowbench.training.duality import duality, has_duality
from flowbench.training.environment import environment
from flowbench.training.needs import refuse_too_large, room_to_train
from flowbench.training.objective import MaximumLikelihood
from flowbench.training.schedule import Schedule
from flowbench.training.sketching import sketch
from flowbench.training.state import best_of


def run(
    config: RunConfig, dataset: Dataset, folder: Path, progress: Progress, keeping: Keeping | None = None
) -> RunRecord:
    """Do the run and write its record, test log-likelihoods and weights to ``folder``; return the record.

    A run that diverges, fails or is interrupted is written too, with its error; it takes a name of its own where a
    finished one has the run's, which is never lost. To diverge is an outcome; other exceptions go on to the caller.

    Raises:
        ShortOfMemoryError: the training cannot fit into the memory that is available, or was refused some.
        UsageError: ``folder`` took no results; they are in a refuge, which is named.
    """
    with closing(DensityRun(config, dataset, folder, progress, keeping)) as it:
        return it.carried_out()


class DensityRun(Course[RunRecord]):
    """The course of a run by maximum likelihood."""

    kind = RunRecord
    _outcome: recording.DensityOutcome

    def _nothing_yet(self) -> recording.DensityOutcome:
        return recording.DensityOutcome(gaussian=recording.gaussian(self._dataset))

    def _build(self) -> MaximumLikelihood:
        config, dataset = self._config, self._dataset
        with room_to_train(config.device):
            flow = flows.build(config.flow, dataset.dim, config.model, dataset.classes, dataset.discrete)
        self._flow = flow.to(config.device)
        self._truth = true_log_density(dataset) if has_duality(flow) else None
        return MaximumLikelihood(self._flow, self._truth)

    def _refuse_too_large(self) -> None:
        if self._keeping and self._keeping.finish:
            return
        batches = Schedule(self._config.training, len(self._dataset.train)).batches
        refuse_too_large(self._flow, max(batch.stop - batch.start for batch in batches), self._dataset)

    def _evaluate(self, test: Rows) -> None:
        outcome = self._outcome
        outcome.test_lls = log_likelihoods(self._flow, test)
        if self._curves:
            best = best_of(outcome.epochs)
            self._curves.show(outcome.epochs)  # of one that is only finished, none was shown
            self._curves.test(float(outcome.test_lls.mean()), best.number if best else 0)
        outcome.class_averaged_lls = class_averaged(self._flow, test)
        density = Density(self._flow, self._dataset.preprocessing or (), self._dataset.given, self._dataset.discrete)
        outcome.bits_per_pixel = density.bits_per_pixel(test, outcome.test_lls)
        if self._dataset.space == "standardised":
            outcome.own_units_ll = float(density.in_own_units(test, outcome.test_lls).mean())

    def _close(self, test: Rows) -> None:
        outcome = self._outcome
        assert outcome.test_lls is not None
        outcome.timings = time_flow(self._flow, test)
        outcome.sketch = self._sketch(outcome.test_lls)
        outcome.checks = checks(self._flow, test, outcome.test_lls)
        if self._truth:
            outcome.duality = duality(self._flow, test, self._truth)
            outcome.checks["duality"] = outcome.duality.check
        best = best_of(outcome.epochs)
        train_ll = best.train_ll_nats if best else None
        outcome.doubts = doubts(self._flow, self._dataset, train_ll, outcome.validation_ll_nats, outcome.test_lls)
        for doubt in outcome.doubts:
            if doubt not in self._dataset.remarks:  # which were said when the table was read
                warn(doubt)
        self._judge()

    def _sketch(self, test_lls: recording.Lls) -> Sketch | None:
        """None where none is wanted or none can be made: a run is no worse for it."""
        if self._keeping is None or not self._keeping.order.sketch:
            return None
        try:
            return sketch(self._flow, self._dataset, test_lls, stream(self._config.seed, "sketch"))
        except Exception as error:
            warn(f"no sketch is kept for pictures: {shortage(error) or f'{type(error).__name__}: {reason_of(error)}'}")
            return None

    def _sketched(self) -> Sketch | None:
        return self._outcome.sketch

    def _weights(self, status: str) -> bytes:
        about = recording.about(self._config, self._dataset, status)
        return weights.content(self._flow, self._config.flow, self._config.model, about)

    def _record(self) -> RunRecord:
        config, dataset, outcome = self._config, self._dataset, self._outcome
        return RunRecord(
            run=self._name,
            status=outcome.status,
            error=outcome.error,
            task=recording.task(config, dataset, self._flow),
            setup=recording.setup(config, dataset),
            training=recording.training(outcome),
            likelihoods=recording.likelihoods(dataset, outcome),
            checks=outcome.checks,
            doubts=outcome.doubts,
            timings=outcome.timings,
            environment=environment(config.device, config.threads),
            started_at=self._started,
            total_seconds=time.perf_counter() - self._began,
        )
