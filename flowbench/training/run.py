"""One run, from a configuration to a record: build, train, evaluate, write, check, time, write."""

from __future__ import annotations

import hashlib
import shlex
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from flowbench import flows
from flowbench.config import RunConfig
from flowbench.console import note, warn
from flowbench.data import Dataset, true_log_density
from flowbench.data.rows import Rows, on_device
from flowbench.errors import DivergedError, FlowbenchError, UsageError, memory_granted, reason_of, shortage
from flowbench.files import refuges
from flowbench.flows.core.density import Density, class_averaged, log_likelihoods
from flowbench.interrupts import unbroken
from flowbench.progress import Progress
from flowbench.results import store
from flowbench.results.record import RunRecord
from flowbench.results.refuge import write_anywhere
from flowbench.results.sketch import Sketch
from flowbench.revision import code_digest
from flowbench.seeds import stream
from flowbench.training import recording, weights
from flowbench.training.checks import checks
from flowbench.training.clock import time_flow
from flowbench.training.curves import Curves
from flowbench.training.doubts import doubts
from flowbench.training.duality import duality, has_duality
from flowbench.training.environment import environment
from flowbench.training.loop import Fit
from flowbench.training.needs import refuse_too_large, room_to_train
from flowbench.training.objective import MaximumLikelihood
from flowbench.training.order import Order
from flowbench.training.schedule import Schedule
from flowbench.training.sketching import sketch
from flowbench.training.state import Epoch, State, UnfitStateError, best_of
from flowbench.training.unfinished import About, Checkpoint, Unfinished

UNCLOSED = "its closing checks and times were not done"


@dataclass(frozen=True)
class Keeping:
    """How a run survives a break: the order that leads to it again, its checkpoints, and which one it goes on from.

    ``every`` are the seconds between two (None: a minute or more), ``changed`` is what was another when they were
    written; ``finish`` takes what there is, and no more steps.
    """

    order: Order
    unfinished: Unfinished
    every: float | None = None
    start: Checkpoint | None = None
    changed: tuple[str, ...] = ()
    finish: bool = False


def run_name(config: RunConfig, dataset: Dataset) -> str:
    """The run's name: equal names, equal configuration, data and code."""
    identity = f"{config.digest(dataset.fingerprint)} {code_digest()}"
    return f"{config.flow}-{dataset.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


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
    with closing(_Run(config, dataset, folder, progress, keeping)) as it:
        return it.carried_out()


class _Run:
    def __init__(
        self, config: RunConfig, dataset: Dataset, folder: Path, progress: Progress, keeping: Keeping | None
    ) -> None:
        self._config, self._dataset, self._folder, self._progress = config, dataset, folder, progress
        self._keeping = keeping
        self._curves: Curves | None = None
        self._name = run_name(config, dataset)
        self._outcome = recording.Outcome(recording.gaussian(dataset), changed=keeping.changed if keeping else ())
        self._begin(keeping.start if keeping else None)

    def _begin(self, start: Checkpoint | None) -> None:
        """Build the flow, and reckon from where the run begins or goes on."""
        config, dataset, about = self._config, self._dataset, start.about if start else None
        self._began = time.perf_counter() - (about.seconds if about else 0.0)
        self._started = about.started_at if about else datetime.now(UTC).isoformat(timespec="seconds")
        self._start = start
        self._as_it_was = start is not None
        """Whether what an earlier break left is all that there is: nothing was done since."""
        torch.manual_seed(config.stream("initialisation"))
        with room_to_train(config.device):
            flow = flows.build(config.flow, dataset.dim, config.model, dataset.classes, dataset.discrete)
        self._flow = flow.to(config.device)
        self._truth = true_log_density(dataset) if has_duality(flow) else None

    def close(self) -> None:
        """Let go of the file of curves, if there is one."""
        if self._curves:
            self._curves.close()

    def carried_out(self) -> RunRecord:
        outcome, place, over = self._outcome, self._folder, True
        try:
            with memory_granted():
                self._refuse_too_large()
                test = self._on_device("test")
                self._train_from_what_fits(test)
                self._evaluate(test)
                outcome.status, outcome.error = "interrupted", UNCLOSED
                self._write()  # before anything else takes time
                self._close(test)
        except DivergedError as error:
            outcome.status, outcome.error = "diverged", str(error)
        except KeyboardInterrupt:
            outcome.status, outcome.error, over = "interrupted", "interrupted by the user", False
            raise
        except BaseException as error:
            kind = "" if isinstance(error, FlowbenchError) else f"{type(error).__name__}: "
            outcome.status, outcome.error, over = "failed", kind + str(error), False
            raise
        finally:
            with unbroken():
                if over or not self._as_it_was:
                    record, place = self._write()
                if outcome.status != "interrupted":
                    store.remove(self._folder / f"{self._name}-interrupted.json")  # as it was before its closing
                if over and place == self._folder and self._keeping:
                    self._keeping.unfinished.remove()
            if outcome.status == "interrupted":
                self._say_what_goes_on()
        if place != self._folder:
            hint = f"give it room and start the same command again, or read the results with --out {place}"
            raise UsageError(f"{self._folder} took no results: {record.run} is in {place}", hint)
        for refuge in refuges(self._folder):  # what an earlier try left there
            store.remove(refuge / f"{record.run}.json")
        return record

    def _say_what_goes_on(self) -> None:
        if self._keeping and self._keeping.unfinished.exists():
            words = ["flowbench", "train", "--resume", self._name, "--out", str(self._folder)]
            words += ["--force"] if store.finished(self._folder, self._name) else []
            note(f"to go on: {shlex.join(words)}")

    def _refuse_too_large(self) -> None:
        """Before anything is moved or trained; what is only to be finished takes no step."""
        if self._keeping and self._keeping.finish:
            return
        batches = Schedule(self._config.training, len(self._dataset.train)).batches
        refuse_too_large(self._flow, max(batch.stop - batch.start for batch in batches), self._dataset)

    def _on_device(self, split: str) -> Rows:
        return on_device(getattr(self._dataset, split), self._config.device)

    def _train_from_what_fits(self, test: Rows) -> None:
        """Train from the newest checkpoint, or where it is another training's from one before it, or anew."""
        try:
            self._train(test)
        except UnfitStateError as error:
            keeping, start = self._keeping, self._start
            if keeping is None or start is None:
                raise
            self._begin(keeping.unfinished.newest(start.path))
            if self._start is None and keeping.finish:
                raise UsageError(f"{start.path} does not fit: {error}", "--restart trains it anew") from error
            instead = "the checkpoint before it is taken" if self._start else "the training begins anew"
            warn(f"{start.path} does not fit: {error}; {instead}")
            self._train_from_what_fits(test)

    def _train(self, test: Rows) -> None:
        config, keeping, outcome, progress = self._config, self._keeping, self._outcome, self._progress
        rows, validation = self._on_device("train"), self._on_device("validation")
        start = self._start.state if self._start else None
        objective, order = MaximumLikelihood(self._flow, self._truth), config.stream("shuffling")
        fit = Fit(objective, rows, validation, config.training, order, start, test)
        outcome.epochs = fit.epochs
        outcome.steps_per_epoch = Schedule(config.training, len(rows)).steps
        best = best_of(fit.epochs)
        progress.goes_on([epoch.validation_ll_nats for epoch in fit.epochs], best.validation_ll_nats if best else None)
        if keeping:
            fit.save_to(self._save, keeping.every)
            if keeping.finish:
                fit.end()

        if keeping and keeping.order.tensorboard:
            self._curves = Curves(self._folder, self._name, config)

        def on_epoch(epoch: Epoch) -> None:
            if self._curves:
                self._curves.show(fit.epochs)
            rate, lls = epoch.rows / epoch.train_seconds, (epoch.train_ll_nats, epoch.validation_ll_nats)
            progress.epoch(epoch.number, epoch.of, *lls, epoch.best, rate, epoch.seconds)

        try:
            fit.run(progress.step, on_epoch)
            outcome.trained = True
        finally:
            self._as_it_was &= not fit.begun
            outcome.retries = fit.retries
            best = best_of(fit.epochs)
            outcome.validation_ll_nats = best.validation_ll_nats if best else None
            outcome.trained |= best is not None
        if not fit.epochs:  # else the best epoch's is known: the flow is as it was then
            outcome.validation_ll_nats = float(log_likelihoods(self._flow, validation).mean())

    def _evaluate(self, test: Rows) -> None:
        """Once, after the best epoch by validation is chosen."""
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
        failed = [
            f"{check.what} is {check.value}, limit {check.limit}"
            for check in outcome.checks.values()
            if not check.passed
        ]
        outcome.status, outcome.error = ("failed", "; ".join(failed)) if failed else ("ok", None)

    def _sketch(self, test_lls: recording.Lls) -> Sketch | None:
        """None where none is wanted or none can be made: a run is no worse for it."""
        if self._keeping is None or not self._keeping.order.sketch:
            return None
        try:
            return sketch(self._flow, self._dataset, test_lls, stream(self._config.seed, "sketch"))
        except Exception as error:
            warn(f"no sketch is kept for pictures: {shortage(error) or f'{type(error).__name__}: {reason_of(error)}'}")
            return None

    def _save(self, state: State) -> None:
        keeping, config = self._keeping, self._config
        assert keeping is not None
        about = About(
            run=self._name,
            kin=config.kin(self._dataset.fingerprint),
            order=keeping.order.model_dump(mode="json"),
            config=config.model_dump(mode="json"),
            rows_sha256=self._dataset.rows_sha256,
            environment=environment(config.device, config.threads),
            started_at=self._started,
            seconds=time.perf_counter() - self._began,
            changed=keeping.changed,
        )
        keeping.unfinished.write(about, state)

    def _write(self) -> tuple[RunRecord, Path]:
        """Write what there is; the record and the folder that took it."""
        record, content = self._record(), None
        if self._outcome.trained:
            about = recording.about(self._config, self._dataset, record.status)
            try:
                content = weights.content(self._flow, self._config.flow, self._config.model, about)
            except (RuntimeError, MemoryError, ValueError) as error:  # a device that failed, or a header too long
                warn(f"no weights are written: {error}")
        path = write_anywhere(record, self._folder, self._outcome.test_lls, content, self._outcome.sketch)
        return store.read(path), path.parent

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
