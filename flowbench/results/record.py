"""The record that a run leaves, part by part; ``store`` reads and writes it. Never imports torch.

Its fields are those of the JSON file, and of what ``--json`` prints. The JSON is strict: a figure that is not a finite
number is ``null``. Settings may be infinite; they are written as TOML spells them (``"inf"``, ``"-inf"``, ``"nan"``),
which the configuration reads back.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from flowbench.results.fields import (
    MOST_TIMINGS,
    Count,
    Figure,
    FileName,
    Name,
    Positive,
    Seed,
    Settings,
    Spread,
    ending_at_the_first_error,
    file_name,
)

SCHEMA_VERSION = 2
"""Raised when a reader of the old records would misunderstand the new ones; a new optional field does not need it."""


_CANONICAL = json.JSONEncoder(sort_keys=True).encode


class Part(BaseModel):
    """A part of a record. A newer flowbench may have added fields: unknown ones are passed over, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A damaged file has one error that is told, however many it has."""
        schema: CoreSchema = ending_at_the_first_error(handler(source))
        return schema


class Estimate(Part):
    """A mean over test rows with its standard errors, in the unit that the name of its field says.

    ``stderr`` takes the rows as independent. Where they are windows of a few photographs it is an error given those
    photographs, and ``stderr_by_group`` is the error over photographs. Neither is an error over seeds.
    """

    mean: Figure
    stderr: Spread = None
    stderr_by_group: Spread = None


class Task(Part):
    """The flow, and the data that it was trained on.

    ``space`` is the space of the rows and of all log-likelihoods. ``dequantised`` are the columns of a user's table
    that uniform noise was added to, and its width in their units. ``test_groups`` counts the photographs that the test
    rows are windows of; None where they are no windows. ``rows_sha256`` has a digest of each split's content: equal
    ones are the same rows, whatever code made them. It is empty in records that are older than it. ``split_seed`` and
    ``noise_seed`` are those of a user's table; None where nothing was drawn. ``given`` are the columns that the density
    is conditional on, beside the ``dim`` that it is one of, each with the number of its classes: 0 of a number.
    ``kinds`` say in words what columns are that are not continuous numbers without bounds; where some are discrete in
    part, the density is one with respect to the counting measure of that part. ``ties_allowed`` are columns of which a
    density was learnt in spite of heavy ties: their likelihood can grow without bound, and compares with nothing.
    """

    flow: Name
    parameters: Count | None = None
    density_passes: Count | None = None
    sampling_passes: Count | None = None
    data: Name
    data_version: Count
    data_fingerprint: Name
    partial: bool
    dequantised: dict[str, FiniteFloat] = {}
    space: Name
    dim: Count
    given: dict[str, int] = {}
    kinds: dict[str, str] = {}
    ties_allowed: tuple[str, ...] = ()
    n_train: Count
    n_validation: Count
    n_test: Count
    test_groups: Count | None = None
    rows_sha256: dict[str, str] = {}
    split_seed: Seed | None = None
    noise_seed: Seed | None = None


class Setup(Part):
    """How the flow was to be trained: the recipe, and every setting of flow and training that came of it.

    ``init_seed`` and ``shuffle_seed``, of initial weights and of the batches' order alone, are ``seed`` where None.
    """

    recipe: Name
    seed: Seed
    init_seed: Seed | None = None
    shuffle_seed: Seed | None = None
    config: Settings
    config_hash: Name


class History(Part):
    """A training epoch by epoch, each list as long as there were epochs.

    ``train_ll_nats`` are means over the batches as they came, ``seconds`` those since training began, breaks left out;
    ``learning_rate`` is the last step's, ``gradient_norm`` the mean over steps, before clipping.
    """

    train_ll_nats: list[Figure]
    validation_ll_nats: list[Figure]
    seconds: list[Figure]
    learning_rate: list[Figure]
    gradient_norm: list[Figure]


class Training(Part):
    """What training took. ``train_ll_nats`` is a mean over the best epoch's batches as they came.

    ``train_seconds`` are without what lay between a break and going on. ``changed`` tells what was different then
    (other threads, say), ``retries`` how often training went back from what was not finite.
    """

    epochs: Count | None = None
    steps_per_epoch: Count | None = None
    best_epoch: Count | None = None
    train_seconds: Spread = None
    train_rows_per_second: Spread = None
    train_ll_nats: Figure = None
    retries: Count = 0
    changed: tuple[str, ...] = ()
    history: History | None = None


class Likelihoods(Part):
    """Log-likelihoods as means over a whole split, in nats in the space of the task.

    Of a conditional density they are of p(x | y), and of a Gaussian whose mean is linear in y. Where y is one of K
    classes, ``class_averaged_test_ll_nats`` is the mean of log (1/K) Σ_y p(x | y): of p(x), if classes are alike.
    ``nats_below_truth`` is the mean over test rows of the true log-density minus the flow's, with the error of the
    paired differences. ``kl_of_data_nats`` and ``kl_of_noise_nats`` are KL(π_x ‖ p_x) and KL(p_u ‖ π_u) over at most
    5,000 test rows in double precision, each by another direction of the flow: they are equal. ``far_test_rows``
    counts the test rows whose log-density is more than 10 standard deviations from the mean; they are part of every
    mean but ``test_ll_without_far_rows_nats``.
    """

    validation_ll_nats: Figure = None
    test_ll_nats: Estimate | None = None
    class_averaged_test_ll_nats: Estimate | None = None
    gaussian_test_ll_nats: Estimate | None = None
    bits_per_pixel: Estimate | None = None
    true_test_ll_nats: Figure = None
    nats_below_truth: Estimate | None = None
    kl_of_data_nats: Estimate | None = None
    kl_of_noise_nats: Estimate | None = None
    test_ll_own_units_nats: Figure = None
    far_test_rows: Count | None = None
    test_ll_without_far_rows_nats: Figure = None


class Check(Part):
    """A closing check of a run: ``value`` was held against ``limit``; None where it was not a finite number."""

    value: Figure
    limit: FiniteFloat
    passed: bool
    what: str

    @classmethod
    def of(cls, value: float, limit: float, what: str) -> Check:
        """A value held against its limit; NaN is no number below one."""
        return cls(value=value, limit=limit, passed=value <= limit, what=what)


class Timing(Part):
    """What a density and a sample cost at one batch size: medians and quartiles in microseconds per row.

    The first calls (compilation, allocation) stand apart and are in no median.
    """

    batch: Count
    density_us_per_row: Positive
    density_us_per_row_q1: Positive
    density_us_per_row_q3: Positive
    sampling_us_per_row: Positive
    sampling_us_per_row_q1: Positive
    sampling_us_per_row_q3: Positive
    runs: Count
    first_density_us_per_row: Positive
    first_sampling_us_per_row: Positive


class Files(Part):
    """The names of the files beside a record: weights, what was measured in nats of each test row, and the sketch."""

    weights: Annotated[str, file_name(".safetensors")] | None = None
    test_lls: Annotated[str, file_name(".npy")] | None = None
    sketch: Annotated[str, file_name(".sketch")] | None = None

    @property
    def names(self) -> list[str]:
        """Of those that there are."""
        return [name for name in (self.weights, self.test_lls, self.sketch) if name is not None]


class Environment(Part):
    """Where a run took place, and by which code.

    ``code_digest`` is that of flowbench's sources (``flowbench.revision``); None in records that are older than it.
    """

    device: Name
    device_name: Name
    threads: Count
    dtype: Name
    versions: dict[str, str]
    git_revision: Name | None
    code_digest: Name | None = None
    platform: Name


class Record(Part):
    """What every record has. ``run`` is the file's stem; ``started_at`` is ISO 8601 in UTC."""

    schema_version: Count = SCHEMA_VERSION
    kind: Name
    run: FileName
    environment: Environment
    started_at: Name
    total_seconds: Spread = None


Status = Literal["ok", "diverged", "failed", "interrupted"]


class Trained(Record):
    """What the record of every training has. One that did not end ``ok`` has figures too, which nobody should trust.

    ``doubts`` are what its figures should be doubted for, each in a sentence.
    """

    status: Status
    error: str | None = None
    task: Task
    setup: Setup
    training: Training = Training()
    checks: dict[str, Check] = {}
    doubts: tuple[str, ...] = ()
    files: Files = Files()

    @property
    def model(self) -> str:
        """The flow and its size."""
        return model_name(self.task.flow, self.setup.config)

    @property
    def measured(self) -> Estimate | None:
        """What such trainings are compared by, whose rows are in the file of the test rows' figures."""
        raise NotImplementedError


class RunRecord(Trained):
    """The record of a training by maximum likelihood."""

    kind: Literal["run"] = "run"
    likelihoods: Likelihoods = Likelihoods()
    timings: list[Timing] = Field(default=[], max_length=MOST_TIMINGS)

    @property
    def measured(self) -> Estimate | None:
        """The test log-likelihood."""
        return self.likelihoods.test_ll_nats

    def without_figures(self) -> RunRecord:
        """The record as it was before anything was measured."""
        nothing = {"training": Training(), "likelihoods": Likelihoods(), "checks": {}, "doubts": (), "timings": []}
        return self.model_copy(update=nothing)


def configuration(record: Trained, ignored: Collection[str] = ()) -> str:
    """Every setting of flow and training but those ``ignored``: what decides numbers beside seed and machine."""
    config = record.setup.config
    return _CANONICAL({key: value for key, value in config.items() if key not in ignored} if ignored else config)


def model_name(flow: str, settings: Mapping[str, Any]) -> str:
    """The flow and its size: ``maf 5 × (2×100)`` has 5 transforms with 2 hidden layers of 100 units each."""
    transforms, hidden = settings.get("transforms"), settings.get("hidden")
    if not transforms or not isinstance(hidden, list | tuple):
        return flow
    if not all(isinstance(size, int) for size in (transforms, *hidden)):
        return flow  # one from outside the package, which calls something else so
    equal = hidden and all(width == hidden[0] for width in hidden)
    widths = f"{len(hidden)}×{hidden[0]}" if equal else "-".join(map(str, hidden)) or "linear"
    return f"{flow} {transforms} × ({widths})"
