"""What a run came to, as the parts of its record."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from flowbench.config import RunConfig
from flowbench.console import warn
from flowbench.data import Dataset
from flowbench.errors import DataError
from flowbench.flows import Flow
from flowbench.results import statistics as stats
from flowbench.results.record import Check, Estimate, History, Likelihoods, Setup, Status, Task, Timing, Training
from flowbench.results.sketch import Sketch
from flowbench.training import weights
from flowbench.training.duality import Duality
from flowbench.training.state import Epoch, best_of

Lls = NDArray[np.float64]

FAR = 10.0
"""Standard deviations from the mean beyond which a test row's log-density is extreme."""


@dataclass
class Outcome:
    """What a run has come to so far: it is recorded wherever it ends. ``test_lls`` is what is measured of test rows."""

    status: Status = "failed"
    error: str | None = None
    epochs: list[Epoch] = field(default_factory=list)
    steps_per_epoch: int | None = None
    trained: bool = False
    """Whether the flow's weights are any that training gave."""
    retries: int = 0
    changed: tuple[str, ...] = ()
    validation_ll_nats: float | None = None
    test_lls: Lls | None = None
    checks: dict[str, Check] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


@dataclass
class DensityOutcome(Outcome):
    """Of a density trained by maximum likelihood."""

    gaussian: Estimate | None = None
    class_averaged_lls: Lls | None = None
    bits_per_pixel: Lls | None = None
    own_units_ll: float | None = None
    """The mean log-density of the test rows in the units of a table."""
    duality: Duality | None = None
    timings: list[Timing] = field(default_factory=list)
    sketch: Sketch | None = None


def about(config: RunConfig, dataset: Dataset, status: str) -> weights.About:
    """What the weights were trained on and how."""
    return weights.About(
        config=config.model_dump(mode="json"),
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        space=dataset.space,
        columns=dataset.columns,
        preprocessing=dataset.preprocessing,
        given=dataset.given,
        discrete=dataset.discrete,
        status=status,
    )


def gaussian(dataset: Dataset) -> Estimate | None:
    """The fitted Gaussian's test figures, before training: it costs a second, and tells of columns that are unfit."""
    try:
        return _estimate(dataset.gaussian_lls, dataset)
    except DataError as error:
        warn(f"no Gaussian to stand beside the flow: {error}")
        return None


def _estimate(values: Lls, dataset: Dataset) -> Estimate:
    """The mean over test rows, with its errors over rows and, where they are windows of photographs, over those."""
    mean, stderr = stats.mean_and_stderr(values)
    groups = dataset.test_groups
    by_group = None if groups is None else stats.mean_and_stderr_by_group(values, groups)[1]
    return Estimate(mean=mean, stderr=stderr, stderr_by_group=by_group)


def estimate(values: Lls) -> Estimate:
    """The mean over rows that are independent, with its standard error."""
    mean, stderr = stats.mean_and_stderr(values)
    return Estimate(mean=mean, stderr=stderr)


def likelihoods(dataset: Dataset, outcome: DensityOutcome) -> Likelihoods:
    """What the flow reached, in each unit that the data has; without test figures where it did not come to them."""
    validation, gaussian, lls = outcome.validation_ll_nats, outcome.gaussian, outcome.test_lls
    if lls is None:
        return Likelihoods(validation_ll_nats=validation, gaussian_test_ll_nats=gaussian)
    truth = None if dataset.test_true_ll is None else np.asarray(dataset.test_true_ll)
    averaged = outcome.class_averaged_lls
    bits, duality = outcome.bits_per_pixel, outcome.duality
    far = np.abs(lls - lls.mean()) > FAR * lls.std() if np.isfinite(lls).all() else np.zeros(len(lls), bool)
    return Likelihoods(
        validation_ll_nats=validation,
        test_ll_nats=_estimate(lls, dataset),
        class_averaged_test_ll_nats=None if averaged is None else _estimate(averaged, dataset),
        gaussian_test_ll_nats=gaussian,
        bits_per_pixel=None if bits is None else _estimate(bits, dataset),
        true_test_ll_nats=None if truth is None else float(truth.mean()),
        nats_below_truth=None if truth is None else _estimate(truth - lls, dataset),
        kl_of_data_nats=None if duality is None else estimate(duality.of_data),
        kl_of_noise_nats=None if duality is None else estimate(duality.of_noise),
        far_test_rows=int(far.sum()),
        test_ll_without_far_rows_nats=float(lls[~far].mean()) if far.any() else None,
        test_ll_own_units_nats=outcome.own_units_ll,
    )


def training(outcome: Outcome) -> Training:
    """What training took, and its history."""
    epochs = outcome.epochs
    if not epochs:
        return Training(epochs=0)
    best = best_of(epochs)
    return Training(
        epochs=len(epochs),
        steps_per_epoch=outcome.steps_per_epoch,
        best_epoch=None if best is None else best.number,
        train_seconds=epochs[-1].seconds,
        train_rows_per_second=sum(epoch.rows for epoch in epochs) / sum(epoch.train_seconds for epoch in epochs),
        train_ll_nats=None if best is None else best.train_ll_nats,
        retries=outcome.retries,
        changed=outcome.changed,
        history=History(
            train_ll_nats=[_short(epoch.train_ll_nats) for epoch in epochs],
            validation_ll_nats=[_short(epoch.validation_ll_nats) for epoch in epochs],
            seconds=[_short(epoch.seconds) for epoch in epochs],
            learning_rate=[_short(epoch.learning_rate) for epoch in epochs],
            gradient_norm=[_short(epoch.gradient_norm) for epoch in epochs],
        ),
    )


def _short(value: float) -> float:
    """To as many digits as single precision has: there are thousands of epochs."""
    return float(f"{value:.7g}")


def task(config: RunConfig, dataset: Dataset, flow: Flow) -> Task:
    """The flow, and the data that it was trained on."""
    return task_of(config.flow, dataset, flow, (flow.transform.density_passes, flow.transform.sampling_passes))


def task_of(name: str, dataset: Dataset, model: nn.Module, passes: tuple[int, int]) -> Task:
    """A model by its flow's name, the data that it was trained on, and the passes of a density and of a sample."""
    n_train, n_validation, n_test = dataset.rows
    return Task(
        flow=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        density_passes=passes[0],
        sampling_passes=passes[1],
        data=dataset.name,
        data_version=dataset.version,
        data_fingerprint=dataset.fingerprint,
        partial=dataset.partial,
        dequantised=dataset.dequantised,
        space=dataset.space,
        dim=dataset.dim + (len(dataset.discrete.categories) if dataset.discrete else 0),
        given={column.name: column.classes for column in dataset.given},
        kinds=dataset.kinds,
        ties_allowed=dataset.tied,
        n_train=n_train,
        n_validation=n_validation,
        n_test=n_test,
        test_groups=None if dataset.test_groups is None else len(np.unique(dataset.test_groups)),
        rows_sha256=dataset.rows_sha256,
        split_seed=dataset.split_seed,
        noise_seed=dataset.noise_seed,
    )


def setup(config: RunConfig, dataset: Dataset) -> Setup:
    """How it was to be trained."""
    return Setup(
        recipe=config.recipe,
        seed=config.seed,
        init_seed=config.init_seed,
        shuffle_seed=config.shuffle_seed,
        config=config.model.model_dump(mode="json") | config.training.model_dump(mode="json"),
        config_hash=config.digest(dataset.fingerprint),
    )
