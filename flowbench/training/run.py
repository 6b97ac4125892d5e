"""One run, from a configuration to a row of results: build, train, evaluate, check, time, write."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowbench import flows
from flowbench.config import RunConfig
from flowbench.console import Progress, warn
from flowbench.data import Dataset
from flowbench.data.rows import Rows, on_device
from flowbench.errors import DataError, DivergedError, FlowbenchError
from flowbench.flows import Flow
from flowbench.flows.core.density import Density, log_likelihoods
from flowbench.results import record as results
from flowbench.results import statistics as stats
from flowbench.results.record import Row
from flowbench.timing.clock import time_flow
from flowbench.training import checkpoint
from flowbench.training.checks import checks
from flowbench.training.environment import environment
from flowbench.training.loop import Epoch, train

Lls = NDArray[np.float64]


def run_name(config: RunConfig, dataset: Dataset) -> str:
    """The run's name: equal names, equal configuration and data."""
    return f"{config.flow}-{dataset.name}-{config.digest(dataset.fingerprint)[:8]}"


def run(config: RunConfig, dataset: Dataset, folder: Path, progress: Progress) -> Row:
    """Do the run and write its row, test log-likelihoods and checkpoint to ``folder``; return the row.

    A run that diverges, fails or is interrupted is written too, with its error; it takes a name of its own where a
    finished one has the run's, which is never lost. To diverge is an outcome; other exceptions go on to the caller.
    """
    began = time.perf_counter()
    figures = _gaussian(dataset)
    epochs: list[Epoch] = []
    test_lls = None
    torch.manual_seed(config.seed)
    flow = flows.load(config.flow).build(dataset.dim, config.model).to(config.device)
    row = _identity(config, dataset, flow)
    try:
        train_rows, validation, test = (
            on_device(part, config.device) for part in (dataset.train, dataset.validation, dataset.test)
        )
        for epoch in train(flow, train_rows, validation, config.training, config.seed, progress.step):
            epochs.append(epoch)
            rate = epoch.rows / epoch.train_seconds
            lls = epoch.train_ll_nats, epoch.validation_ll_nats
            progress.epoch(epoch.number, epoch.of, *lls, epoch.best, rate, epoch.seconds)
        if not epochs:  # else the best epoch's is known: the flow is as it was then
            figures["validation_ll_nats"] = float(log_likelihoods(flow, validation).mean())
        test_lls = log_likelihoods(flow, test)  # once, after the best epoch by validation is chosen
        figures |= _likelihoods(flow, dataset, test, test_lls)
        figures |= {"timings": time_flow(flow, test), "checks": checks(flow, test, test_lls)}
        figures |= _verdict(figures["checks"])
    except DivergedError as error:
        figures |= {"status": "diverged", "error": str(error)}
    except BaseException as error:
        figures |= _failure(error)
        raise
    finally:
        figures = _training(epochs) | figures | {"total_seconds": time.perf_counter() - began}
        if figures["status"] != "ok" and results.finished(folder, row.run):
            figures["run"] = f"{row.run}-{figures['status']}"
        row = Row.model_validate(row.model_dump() | figures)
        # the row last: where it is, the rest is
        about = _about(config, dataset, row.status)
        checkpoint.save(folder / f"{row.run}.safetensors", flow, config.flow, config.model, about)
        results.write(row, folder, test_lls)
    return row


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


def _gaussian(dataset: Dataset) -> dict[str, Any]:
    """The fitted Gaussian's test figures, before training: it costs a second, and tells of columns that are unfit."""
    try:
        mean, stderr = stats.mean_and_stderr(dataset.gaussian_lls)
    except DataError as error:
        warn(f"no Gaussian to stand beside the flow: {error}. A continuous density of such rows can grow without bound")
        return {}
    return {"gaussian_test_ll_nats": mean, "gaussian_test_ll_stderr_nats": stderr}


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt):
        return {"status": "interrupted", "error": "interrupted by the user"}
    kind = "" if isinstance(error, FlowbenchError) else f"{type(error).__name__}: "
    return {"status": "failed", "error": kind + str(error)}


def _verdict(outcome: dict[str, results.Check]) -> dict[str, Any]:
    failed = [f"{c.what} is {c.value}, limit {c.limit}" for c in outcome.values() if not c.passed]
    return {"status": "failed", "error": "; ".join(failed)} if failed else {"status": "ok"}


def _training(epochs: list[Epoch]) -> dict[str, Any]:
    figures: dict[str, Any] = {"epochs": len(epochs)}
    if epochs:
        figures["train_seconds"] = epochs[-1].seconds
        figures["train_rows_per_second"] = sum(e.rows for e in epochs) / sum(e.train_seconds for e in epochs)
    for best in (epoch for epoch in epochs if epoch.best):  # the last of them stays
        figures["best_epoch"] = best.number
        figures["train_ll_nats"] = best.train_ll_nats
        figures["validation_ll_nats"] = best.validation_ll_nats
    return figures


def _likelihoods(flow: Flow, dataset: Dataset, test: Rows, lls: Lls) -> dict[str, Any]:
    """The test figures: what the flow reached, in each unit that the data has."""
    figures: dict[str, Any] = {}
    figures["test_ll_nats"], figures["test_ll_stderr_nats"] = stats.mean_and_stderr(lls)
    bits = Density(flow, dataset.preprocessing or ()).bits_per_pixel(test, lls)
    if bits is not None:
        figures["bits_per_pixel"], figures["bits_per_pixel_stderr"] = stats.mean_and_stderr(bits)
    if dataset.test_true_ll is not None:
        truth = np.asarray(dataset.test_true_ll)
        figures["true_test_ll_nats"] = float(truth.mean())
        figures["nats_below_truth"], figures["nats_below_truth_stderr"] = stats.paired_difference(truth, lls)
    if dataset.unit_log_det is not None:
        figures["test_ll_own_units_nats"] = figures["test_ll_nats"] + dataset.unit_log_det
    return figures


def _identity(config: RunConfig, dataset: Dataset, flow: Flow) -> Row:
    """The row before anything is measured."""
    n_train, n_validation, n_test = dataset.rows
    return Row(
        run=run_name(config, dataset),
        status="failed",
        flow=config.flow,
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
        recipe=config.recipe,
        seed=config.seed,
        config={**config.model.model_dump(mode="json"), **config.training.model_dump(mode="json")},
        config_hash=config.digest(dataset.fingerprint),
        parameters=sum(p.numel() for p in flow.parameters()),
        density_passes=flow.transform.density_passes,
        sampling_passes=flow.transform.sampling_passes,
        environment=environment(config.device, config.threads),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
