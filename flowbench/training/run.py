"""One run, from a configuration to a record: build, train, evaluate, check, time, write."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowbench import flows
from flowbench.config import RunConfig
from flowbench.console import Progress, warn
from flowbench.data import Dataset
from flowbench.data.rows import on_device
from flowbench.errors import DataError, DivergedError, FlowbenchError
from flowbench.flows import Flow
from flowbench.flows.core.density import Density, log_likelihoods
from flowbench.results import statistics as stats
from flowbench.results import store
from flowbench.results.record import Check, Estimate, Likelihoods, RunRecord, Setup, Status, Task, Timing, Training
from flowbench.revision import code_digest
from flowbench.training import checkpoint
from flowbench.training.checks import checks
from flowbench.training.clock import time_flow
from flowbench.training.environment import environment
from flowbench.training.loop import Epoch, train

Lls = NDArray[np.float64]


@dataclass
class _Outcome:
    """What a run has come to so far: it is recorded wherever it ends."""

    gaussian: Estimate | None
    status: Status = "failed"
    error: str | None = None
    epochs: list[Epoch] = field(default_factory=list)
    validation_ll_nats: float | None = None
    test_lls: Lls | None = None
    bits_per_pixel: Lls | None = None
    checks: dict[str, Check] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)


def run_name(config: RunConfig, dataset: Dataset) -> str:
    """The run's name: equal names, equal configuration, data and code."""
    identity = f"{config.digest(dataset.fingerprint)} {code_digest()}"
    return f"{config.flow}-{dataset.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def run(config: RunConfig, dataset: Dataset, folder: Path, progress: Progress) -> RunRecord:
    """Do the run and write its record, test log-likelihoods and checkpoint to ``folder``; return the record.

    A run that diverges, fails or is interrupted is written too, with its error; it takes a name of its own where a
    finished one has the run's, which is never lost. To diverge is an outcome; other exceptions go on to the caller.
    """
    began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    outcome = _Outcome(_gaussian(dataset))
    torch.manual_seed(config.seed)
    flow = flows.build(config.flow, dataset.dim, config.model).to(config.device)
    try:
        _train_and_measure(flow, config, dataset, outcome, progress)
    except DivergedError as error:
        outcome.status, outcome.error = "diverged", str(error)
    except KeyboardInterrupt:
        outcome.status, outcome.error = "interrupted", "interrupted by the user"
        raise
    except BaseException as error:
        kind = "" if isinstance(error, FlowbenchError) else f"{type(error).__name__}: "
        outcome.status, outcome.error = "failed", kind + str(error)
        raise
    finally:
        name = run_name(config, dataset)
        if outcome.status != "ok" and store.finished(folder, name):
            name += f"-{outcome.status}"
        about = _about(config, dataset, outcome.status)
        record = RunRecord(
            run=name,
            status=outcome.status,
            error=outcome.error,
            task=_task(config, dataset, flow),
            setup=_setup(config, dataset),
            training=_training(outcome.epochs),
            likelihoods=_likelihoods(dataset, outcome),
            checks=outcome.checks,
            timings=outcome.timings,
            environment=environment(config.device, config.threads),
            started_at=started,
            total_seconds=time.perf_counter() - began,
        )
        weights = checkpoint.content(flow, config.flow, config.model, about)
        record = store.read(store.write(record, folder, outcome.test_lls, weights))
    return record


def _train_and_measure(flow: Flow, config: RunConfig, dataset: Dataset, outcome: _Outcome, progress: Progress) -> None:
    train_rows, validation, test = (
        on_device(part, config.device) for part in (dataset.train, dataset.validation, dataset.test)
    )
    for epoch in train(flow, train_rows, validation, config.training, config.seed, progress.step):
        outcome.epochs.append(epoch)
        if epoch.best:
            outcome.validation_ll_nats = epoch.validation_ll_nats
        rate = epoch.rows / epoch.train_seconds
        lls = epoch.train_ll_nats, epoch.validation_ll_nats
        progress.epoch(epoch.number, epoch.of, *lls, epoch.best, rate, epoch.seconds)
    if not outcome.epochs:  # else the best epoch's is known: the flow is as it was then
        outcome.validation_ll_nats = float(log_likelihoods(flow, validation).mean())
    outcome.test_lls = log_likelihoods(flow, test)  # once, after the best epoch by validation is chosen
    density = Density(flow, dataset.preprocessing or ())
    outcome.bits_per_pixel = density.bits_per_pixel(test, outcome.test_lls)
    outcome.timings = time_flow(flow, test)
    outcome.checks = checks(flow, test, outcome.test_lls)
    failed = [
        f"{check.what} is {check.value}, limit {check.limit}" for check in outcome.checks.values() if not check.passed
    ]
    outcome.status, outcome.error = ("failed", "; ".join(failed)) if failed else ("ok", None)


def _about(config: RunConfig, dataset: Dataset, status: str) -> checkpoint.About:
    """What the weights were trained on and how."""
    return checkpoint.About(
        config=config.model_dump(mode="json"),
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        space=dataset.space,
        columns=dataset.columns,
        preprocessing=dataset.preprocessing,
        status=status,
    )


def _gaussian(dataset: Dataset) -> Estimate | None:
    """The fitted Gaussian's test figures, before training: it costs a second, and tells of columns that are unfit."""
    try:
        return _estimate(dataset.gaussian_lls, dataset)
    except DataError as error:
        warn(f"no Gaussian to stand beside the flow: {error}. A continuous density of such rows can grow without bound")
        return None


def _estimate(values: Lls, dataset: Dataset) -> Estimate:
    """The mean over test rows, with its errors over rows and, where they are windows of photographs, over those."""
    mean, stderr = stats.mean_and_stderr(values)
    groups = dataset.test_groups
    by_group = None if groups is None else stats.mean_and_stderr_by_group(values, groups)[1]
    return Estimate(mean=mean, stderr=stderr, stderr_by_group=by_group)


def _likelihoods(dataset: Dataset, outcome: _Outcome) -> Likelihoods:
    """What the flow reached, in each unit that the data has; without test figures where it did not come to them."""
    validation, gaussian, lls = outcome.validation_ll_nats, outcome.gaussian, outcome.test_lls
    if lls is None:
        return Likelihoods(validation_ll_nats=validation, gaussian_test_ll_nats=gaussian)
    truth = None if dataset.test_true_ll is None else np.asarray(dataset.test_true_ll)
    bits, log_det = outcome.bits_per_pixel, dataset.unit_log_det
    return Likelihoods(
        validation_ll_nats=validation,
        test_ll_nats=_estimate(lls, dataset),
        gaussian_test_ll_nats=gaussian,
        bits_per_pixel=None if bits is None else _estimate(bits, dataset),
        true_test_ll_nats=None if truth is None else float(truth.mean()),
        nats_below_truth=None if truth is None else _estimate(truth - lls, dataset),
        test_ll_own_units_nats=None if log_det is None else float(lls.mean()) + log_det,
    )


def _training(epochs: list[Epoch]) -> Training:
    if not epochs:
        return Training(epochs=0)
    best = next((epoch for epoch in reversed(epochs) if epoch.best), None)
    return Training(
        epochs=len(epochs),
        best_epoch=None if best is None else best.number,
        train_seconds=epochs[-1].seconds,
        train_rows_per_second=sum(epoch.rows for epoch in epochs) / sum(epoch.train_seconds for epoch in epochs),
        train_ll_nats=None if best is None else best.train_ll_nats,
    )


def _task(config: RunConfig, dataset: Dataset, flow: Flow) -> Task:
    n_train, n_validation, n_test = dataset.rows
    return Task(
        flow=config.flow,
        parameters=sum(parameter.numel() for parameter in flow.parameters()),
        density_passes=flow.transform.density_passes,
        sampling_passes=flow.transform.sampling_passes,
        data=dataset.name,
        data_version=dataset.version,
        data_fingerprint=dataset.fingerprint,
        partial=dataset.partial,
        dequantised=dataset.dequantised,
        space=dataset.space,
        dim=dataset.dim,
        n_train=n_train,
        n_validation=n_validation,
        n_test=n_test,
        test_groups=None if dataset.test_groups is None else len(np.unique(dataset.test_groups)),
        rows_sha256=dataset.rows_sha256,
    )


def _setup(config: RunConfig, dataset: Dataset) -> Setup:
    return Setup(
        recipe=config.recipe,
        seed=config.seed,
        config=config.model.model_dump(mode="json") | config.training.model_dump(mode="json"),
        config_hash=config.digest(dataset.fingerprint),
    )
