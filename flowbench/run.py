"""One run, from a configuration to a row of results: build, train, evaluate, check, time, write."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowbench import checkpoint, flows, results, stats
from flowbench.config import RunConfig
from flowbench.console import DivergedError, FlowbenchError, Progress, UsageError, did_you_mean
from flowbench.data import Dataset, gaussian_ll
from flowbench.evaluate import bits_per_pixel, checks, image_log_likelihoods, log_likelihoods
from flowbench.flows import Flow
from flowbench.results import Environment, Row
from flowbench.timing import time_flow
from flowbench.train import Epoch, train

Lls = NDArray[np.float64]


def resolve_device(name: str) -> str:
    """``auto`` as the GPU there is or the CPU; anything else as it is, if it is there.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UsageError(f"unknown device {name!r}", hint=did_you_mean(name, ["auto", "cpu", "cuda", "cuda:0", "mps"]))
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        raise UsageError(f"this machine has no device {name!r}", hint="--device auto takes a GPU where there is one")
    return name


def run_name(config: RunConfig, dataset: Dataset) -> str:
    """The run's name: equal names, equal configuration and data."""
    return f"{config.flow}-{dataset.name}-{config.digest(dataset.fingerprint)[:8]}"


def run(config: RunConfig, dataset: Dataset, folder: Path, progress: Progress) -> Row:
    """Do the run and write its row, test log-likelihoods and checkpoint to ``folder``; return the row.

    A run that diverges, fails or is interrupted is written too, with its error, and its exception goes on to the caller.
    """
    began = time.perf_counter()
    row = _identity(config, dataset)
    epochs: list[Epoch] = []
    figures: dict[str, Any] = {}
    test_lls = None
    flow = None
    try:
        torch.manual_seed(config.seed)
        module = flows.load(config.flow)
        flow = module.build(dataset.dim, config.model).to(config.device)
        figures["parameters"] = sum(p.numel() for p in flow.parameters())
        train_rows, validation, test = (_on_device(part, config.device) for part in (dataset.train, dataset.validation, dataset.test))
        for epoch in train(flow, train_rows, validation, config.training, config.seed, progress.step):
            epochs.append(epoch)
            rate = epoch.rows / epoch.train_seconds
            lls = epoch.train_ll_nats, epoch.validation_ll_nats
            progress.epoch(epoch.number, epoch.of, *lls, epoch.best, rate, epoch.seconds)
        test_lls = log_likelihoods(flow, test)  # the one time that the test split is looked at
        figures |= {"validation_ll_nats": float(log_likelihoods(flow, validation).mean())}
        figures |= _likelihoods(dataset, test, test_lls)
        figures |= {"checks": checks(flow, test, test_lls), "timings": time_flow(flow, test)}
        figures |= {"density_passes": flow.transform.density_passes, "sampling_passes": flow.transform.sampling_passes}
        figures |= _verdict(figures["checks"])
    except BaseException as error:
        figures |= _failure(error)
        raise
    finally:
        figures |= _training(epochs) | {"total_seconds": time.perf_counter() - began}
        row = row.model_copy(update=figures)
        results.write(row, folder, test_lls)
        if flow is not None:
            checkpoint.save(folder / f"{row.run}.safetensors", flow, config.flow, config.model)
    return row


def _on_device(part: NDArray[np.float32], device: str) -> Tensor:
    # a copy: the arrays may be read-only maps of files, and training gathers from them at random
    return torch.from_numpy(np.array(part)).to(device)


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt):
        return {"status": "interrupted", "error": "interrupted by the user"}
    status = "diverged" if isinstance(error, DivergedError) else "failed"
    kind = "" if isinstance(error, FlowbenchError) else f"{type(error).__name__}: "
    return {"status": status, "error": kind + str(error)}


def _verdict(outcome: dict[str, results.Check]) -> dict[str, Any]:
    failed = [f"{name}: {check.what} is {check.value}, limit {check.limit}" for name, check in outcome.items() if not check.passed]
    return {"status": "failed", "error": "; ".join(failed)} if failed else {"status": "ok"}


def _training(epochs: list[Epoch]) -> dict[str, Any]:
    if not epochs:
        return {"epochs": 0}
    best = [epoch for epoch in epochs if epoch.best][-1]
    return {
        "epochs": len(epochs),
        "best_epoch": best.number,
        "train_ll_nats": best.train_ll_nats,
        "validation_ll_nats": best.validation_ll_nats,
        "train_seconds": epochs[-1].seconds,
        "train_rows_per_second": sum(e.rows for e in epochs) / sum(e.train_seconds for e in epochs),
    }


def _likelihoods(dataset: Dataset, test: Tensor, lls: Lls) -> dict[str, Any]:
    """The test figures: what the flow reached, and what stands beside it."""
    figures: dict[str, Any] = {}

    def put(name: str, values: Lls) -> None:
        figures[name], figures[name.removesuffix("_nats") + ("_stderr_nats" if name.endswith("_nats") else "_stderr")] = (
            stats.mean_and_stderr(values)
        )

    put("test_ll_nats", lls)
    put("gaussian_test_ll_nats", gaussian_ll(dataset.train, dataset.test))
    card = dataset.card
    if card.logit_alpha is not None and card.levels is not None:
        image_lls = image_log_likelihoods(test, lls, card.logit_alpha)
        put("bits_per_pixel", bits_per_pixel(image_lls, dataset.dim, card.levels))
    if dataset.test_true_ll is not None:
        truth = np.asarray(dataset.test_true_ll)
        figures["true_test_ll_nats"] = float(truth.mean())
        put("nats_below_truth", truth - lls)
    if dataset.unit_log_det is not None:
        figures["test_ll_own_units_nats"] = figures["test_ll_nats"] + dataset.unit_log_det
    return figures


def _identity(config: RunConfig, dataset: Dataset) -> Row:
    """The row before anything is measured."""
    n_train, n_validation, n_test = dataset.rows
    return Row(
        run=run_name(config, dataset),
        status="failed",
        flow=config.flow,
        data=dataset.name,
        data_version=dataset.card.version,
        data_fingerprint=dataset.fingerprint,
        partial=dataset.partial,
        space=dataset.card.space,
        dim=dataset.dim,
        n_train=n_train,
        n_validation=n_validation,
        n_test=n_test,
        recipe=config.recipe,
        seed=config.seed,
        config={**config.model.model_dump(mode="json"), **config.training.model_dump(mode="json")},
        config_hash=config.digest(dataset.fingerprint),
        environment=_environment(config.device),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _environment(device: str) -> Environment:
    packages = ("flowbench", "torch", "numpy", "scikit-learn")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    return Environment(
        device=device,
        device_name=name,
        threads=torch.get_num_threads(),
        dtype=str(torch.get_default_dtype()).removeprefix("torch."),
        versions={"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages},
        git_revision=_git_revision(),
        platform=platform.platform(),
    )


def _git_revision() -> str | None:
    """The revision of flowbench's own checkout, with + where it has changes; None in an installed wheel."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
