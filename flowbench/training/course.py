"""The course of a run: begun or gone on with, trained, evaluated, closed, and written wherever it ends."""

from __future__ import annotations

import hashlib
import shlex
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import torch

from flowbench.config import RunConfig
from flowbench.console import note, warn
from flowbench.data import Dataset
from flowbench.data.rows import Rows, on_device
from flowbench.errors import DivergedError, FlowbenchError, UsageError, memory_granted
from flowbench.files import refuges
from flowbench.interrupts import unbroken
from flowbench.progress import Progress
from flowbench.results import store
from flowbench.results.record import Trained
from flowbench.results.refuge import write_anywhere
from flowbench.results.sketch import Sketch
from flowbench.revision import code_digest
from flowbench.training import recording
from flowbench.training.curves import Curves
from flowbench.training.environment import environment
from flowbench.training.loop import Fit
from flowbench.training.objective import Objective
from flowbench.training.order import Order
from flowbench.training.schedule import Schedule
from flowbench.training.state import Epoch, State, UnfitStateError, best_of
from flowbench.training.unfinished import About, Checkpoint, Unfinished

UNCLOSED = "its closing checks and times were not done"

R = TypeVar("R", bound=Trained)


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


class Course(ABC, Generic[R]):
    """A run's course, from a configuration and its data to a record in ``folder``; what is trained, others say."""

    kind: type[R]
    """Of its record."""

    _outcome: recording.Outcome

    def __init__(
        self, config: RunConfig, dataset: Dataset, folder: Path, progress: Progress, keeping: Keeping | None
    ) -> None:
        self._config, self._dataset, self._folder, self._progress = config, dataset, folder, progress
        self._keeping, self._outcome = keeping, self._nothing_yet()
        self._outcome.changed = keeping.changed if keeping else ()
        self._curves: Curves | None = None
        self._name = run_name(config, dataset)
        self._begin(keeping.start if keeping else None)

    @abstractmethod
    def _nothing_yet(self) -> recording.Outcome:
        """What the run has come to before it begins."""

    @abstractmethod
    def _build(self) -> Objective:
        """What is trained, on its device; the generator of random numbers is seeded."""

    @abstractmethod
    def _refuse_too_large(self) -> None:
        """Before anything is moved or trained; what is only to be finished takes no step."""

    @abstractmethod
    def _evaluate(self, test: Rows) -> None:
        """Measure test rows, once, after the best epoch by validation is chosen."""

    @abstractmethod
    def _close(self, test: Rows) -> None:
        """Do the rest, and say how the run ended."""

    @abstractmethod
    def _record(self) -> R:
        """What there is, as a record."""

    @abstractmethod
    def _weights(self, status: str) -> bytes:
        """The content of the file of weights."""

    def _sketched(self) -> Sketch | None:
        """What is kept for pictures."""
        return None

    def _begin(self, start: Checkpoint | None) -> None:
        """Build what is trained, and reckon from where the run begins or goes on."""
        about = start.about if start else None
        self._began = time.perf_counter() - (about.seconds if about else 0.0)
        self._started = about.started_at if about else datetime.now(UTC).isoformat(timespec="seconds")
        self._start = start
        self._as_it_was = start is not None
        """Whether what an earlier break left is all that there is: nothing was done since."""
        torch.manual_seed(self._config.stream("initialisation"))
        self._objective = self._build()

    def close(self) -> None:
        """Let go of the file of curves, if there is one."""
        if self._curves:
            self._curves.close()

    def carried_out(self) -> R:
        """The record of the run, which is written; see `run.run`."""
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
            words = ["--force"] if store.finished_as(self.kind, self._folder, self._name) else []
            note(f"to go on: {shlex.join([*self._goes_on_by(), '--out', str(self._folder), *words])}")

    def _goes_on_by(self) -> list[str]:
        """The command that goes on with it, but for the folder."""
        return ["flowbench", "train", "--resume", self._name]

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
        fit = Fit(self._objective, rows, validation, config.training, config.stream("shuffling"), start, test)
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
        if not fit.epochs:  # else the best epoch's is known: the model is as it was then
            outcome.validation_ll_nats = self._objective.value(validation)

    def _save(self, state: State) -> None:
        keeping, config = self._keeping, self._config
        assert keeping is not None
        about = About(
            run=self._name,
            kin=config.kin(self._dataset.fingerprint),
            order=keeping.order.model_dump(mode="json"),
            goes_on_by=tuple(self._goes_on_by()),
            config=config.model_dump(mode="json"),
            rows_sha256=self._dataset.rows_sha256,
            environment=environment(config.device, config.threads),
            started_at=self._started,
            seconds=time.perf_counter() - self._began,
            changed=keeping.changed,
        )
        keeping.unfinished.write(about, state)

    def _write(self) -> tuple[R, Path]:
        """Write what there is; the record and the folder that took it."""
        record, content = self._record(), None
        if self._outcome.trained:
            try:
                content = self._weights(record.status)
            except (RuntimeError, MemoryError, ValueError) as error:  # a device that failed, or a header too long
                warn(f"no weights are written: {error}")
        path = write_anywhere(record, self._folder, self._outcome.test_lls, content, self._sketched())
        return store.read_as(self.kind, path), path.parent

    def _judge(self) -> None:
        """The end by its checks: well, or failed."""
        outcome = self._outcome
        failed = [
            f"{check.what} is {check.value}, limit {check.limit}"
            for check in outcome.checks.values()
            if not check.passed
        ]
        outcome.status, outcome.error = ("failed", "; ".join(failed)) if failed else ("ok", None)
