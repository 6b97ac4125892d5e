"""The columns of an exported table: each one's name, type, unit and meaning, and where in a record its values are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from flowbench.results.record import Files, RunRecord

Type = Literal["text", "integer", "number", "boolean", "time", "json", "setting"]
"""``json`` is text that holds what is no scalar. A ``setting`` has the type that fits all its values."""


@dataclass(frozen=True)
class Column:
    """A column; ``source`` is the path of its values in a record, empty where they are not of the record.

    A name with ``<…>`` stands for as many columns as the records have keys.
    """

    name: str
    source: str
    type: Type
    unit: str
    meaning: str

    def of(self, key: object) -> Column:
        """The column of a key, of those that it stands for."""
        before, _, rest = self.name.partition("<")
        return replace(self, name=f"{before}{key}{rest.partition('>')[2]}")


def _estimate(name: str, unit: str, meaning: str) -> Iterator[Column]:
    """The columns of a mean over test rows, and of its errors."""
    source = f"likelihoods.{name}"
    bare, ending = (name.removesuffix("_nats"), "_nats") if name.endswith("_nats") else (name, "")
    yield Column(name, f"{source}.mean", "number", unit, meaning)
    rows, groups = f"{bare}_stderr{ending}", f"{bare}_stderr_by_group{ending}"
    yield Column(rows, f"{source}.stderr", "number", unit, f"the standard error of {name} over test rows")
    what = f"the standard error of {name} over the photographs that test rows are windows of"
    yield Column(groups, f"{source}.stderr_by_group", "number", unit, what)


PATH = Column("path", "", "text", "", "the record's file, from the folder of results on")

CORE = (
    Column("run", "run", "text", "", "the run's name"),
    PATH,
    Column("status", "status", "text", "", "ok, diverged, failed or interrupted: trust figures of ok alone"),
    Column("error", "error", "text", "", "why it did not end well"),
    Column("flow", "task.flow", "text", "", "the flow"),
    Column("model", "model", "text", "", "the flow and its size"),
    Column("data", "task.data", "text", "", "the dataset, or the name of the table"),
    Column("seed", "setup.seed", "integer", "", "seeds what no other seed does"),
    Column("recipe", "setup.recipe", "text", "", "fast, best or paper"),
    Column("started_at", "started_at", "time", "", "when the run began; empty where the record has no time"),
    Column("validation_ll_nats", "likelihoods.validation_ll_nats", "number", "nats", "mean over validation rows"),
    *_estimate("test_ll_nats", "nats", "mean log-likelihood of the test rows in the space of column `space`"),
    *_estimate("gaussian_test_ll_nats", "nats", "that of a Gaussian fitted to the training rows"),
    *_estimate("class_averaged_test_ll_nats", "nats", "of a density given a class: that averaged over all classes"),
    *_estimate("bits_per_pixel", "bits per pixel", "of images: the negative log-likelihood of their levels"),
    *_estimate("nats_below_truth", "nats", "where the density is known: its log-likelihood minus the flow's"),
    *_estimate("kl_of_data_nats", "nats", "KL(data, flow) by the density direction: at most 5,000 test rows"),
    *_estimate("kl_of_noise_nats", "nats", "KL(noise of data, base) by the other direction, of the same rows"),
    Column("true_test_ll_nats", "likelihoods.true_test_ll_nats", "number", "nats", "that of the true density"),
    Column(
        "test_ll_own_units_nats",
        "likelihoods.test_ll_own_units_nats",
        "number",
        "nats",
        "the mean test log-likelihood in the table's own units",
    ),
    Column(
        "far_test_rows",
        "likelihoods.far_test_rows",
        "integer",
        "rows",
        "test rows whose log-density is more than 10 standard deviations from the mean",
    ),
    Column(
        "test_ll_without_far_rows_nats",
        "likelihoods.test_ll_without_far_rows_nats",
        "number",
        "nats",
        "the mean test log-likelihood without those",
    ),
    Column("train_ll_nats", "training.train_ll_nats", "number", "nats", "mean over the best epoch's batches"),
    Column("doubts", "doubts", "json", "", "what the figures should be doubted for: sentences"),
    Column("parameters", "task.parameters", "integer", "parameters", "of the flow"),
    Column("density_passes", "task.density_passes", "integer", "passes", "of a density in the textbook"),
    Column("sampling_passes", "task.sampling_passes", "integer", "passes", "of a sample in the textbook"),
    Column("epochs", "training.epochs", "integer", "epochs", "that were trained"),
    Column("steps_per_epoch", "training.steps_per_epoch", "integer", "", "of an epoch that was not cut short"),
    Column("best_epoch", "training.best_epoch", "integer", "", "the epoch that was kept, from 1"),
    Column("train_seconds", "training.train_seconds", "number", "seconds", "of training, breaks left out"),
    Column(
        "train_rows_per_second", "training.train_rows_per_second", "number", "rows per second", "that were trained on"
    ),
    Column("total_seconds", "total_seconds", "number", "seconds", "of the whole run"),
    Column("retries", "training.retries", "integer", "", "how often training went back from what was not finite"),
    Column("changed", "training.changed", "json", "", "what was different after a break: sentences"),
    Column("device", "environment.device", "text", "", "cpu, cuda or mps"),
    Column("device_name", "environment.device_name", "text", "", "the processor, or the GPU"),
    Column("threads", "environment.threads", "integer", "threads", "of the CPU"),
    Column("dtype", "environment.dtype", "text", "", "the type of weights and rows"),
    Column("platform", "environment.platform", "text", "", "the operating system and the architecture"),
    Column("git_revision", "environment.git_revision", "text", "", "of flowbench"),
    Column("code_digest", "environment.code_digest", "text", "", "of flowbench's sources"),
    Column("data_version", "task.data_version", "integer", "", "of the dataset's preparation"),
    Column("data_fingerprint", "task.data_fingerprint", "text", "", "of the raw files and what was made of them"),
    Column("partial", "task.partial", "boolean", "", "whether there were fewer rows than published"),
    Column("space", "task.space", "text", "", "the space of the rows and of all log-likelihoods"),
    Column("dim", "task.dim", "integer", "columns", "that the density is one of"),
    Column("n_train", "task.n_train", "integer", "rows", "of the training split"),
    Column("n_validation", "task.n_validation", "integer", "rows", "of the validation split"),
    Column("n_test", "task.n_test", "integer", "rows", "of the test split"),
    Column("test_groups", "task.test_groups", "integer", "photographs", "that test rows are windows of"),
    *(
        Column(f"{split}_rows_sha256", f"task.rows_sha256.{split}", "text", "", f"digest of the {split} rows")
        for split in ("train", "validation", "test")
    ),
    Column("dequantised", "task.dequantised", "json", "", "columns with uniform noise: its width in their units"),
    Column("given", "task.given", "json", "", "columns that the density is given: their number of classes, or 0"),
    Column("kinds", "task.kinds", "json", "", "what columns are that are not continuous numbers without bounds"),
    Column("ties_allowed", "task.ties_allowed", "json", "", "columns with heavy ties that were learnt as they are"),
    Column("split_seed", "task.split_seed", "integer", "", "of how a table was split"),
    Column("noise_seed", "task.noise_seed", "integer", "", "of the noise that a table got"),
    Column("init_seed", "setup.init_seed", "integer", "", "of initial weights; empty where it is `seed`"),
    Column("shuffle_seed", "setup.shuffle_seed", "integer", "", "of the batches' order; empty where it is `seed`"),
    Column("config_hash", "setup.config_hash", "text", "", "of all settings"),
    *(
        Column(f"{name}_file", f"files.{name}", "text", "", f"the file of {name} beside the record")
        for name in Files.model_fields
    ),
    Column("schema_version", "schema_version", "integer", "", "of the record, as it was read"),
)
"""These come first, in this order, whatever the records have."""


def _cost(quartile: str, said: str) -> Iterator[Column]:
    for work, what in (("density", "a density"), ("sampling", "a sample")):
        name = f"{work}_us_per_row{quartile}"
        meaning = f"{said} of {what} in batches of so many rows"
        yield Column(f"{name}_at_<batch>", f"timings.{name}", "number", "microseconds per row", meaning)


TIMINGS = (
    *_cost("", "the median time"),
    *_cost("_q1", "the first quartile of the time"),
    *_cost("_q3", "the third quartile of the time"),
    *(
        Column(
            f"first_{work}_us_per_row_at_<batch>",
            f"timings.first_{work}_us_per_row",
            "number",
            "microseconds per row",
            "the time of the first call, which is in no median",
        )
        for work in ("density", "sampling")
    ),
    Column("timed_runs_at_<batch>", "timings.runs", "integer", "runs", "that median and quartiles are of"),
)

CHECKS = (
    Column("check.<name>.value", "checks.value", "number", "", "of a closing check: what was found"),
    Column("check.<name>.limit", "checks.limit", "number", "", "what it may be at the most"),
    Column("check.<name>.passed", "checks.passed", "boolean", "", "whether it was within the limit"),
    Column("check.<name>.what", "checks.what", "text", "", "what was checked"),
)

VERSIONS = Column("version.<package>", "environment.versions", "text", "", "of Python, of flowbench and what it uses")

CONFIG = Column("config.<setting>", "setup.config", "setting", "", "a setting: see `flowbench train --settings`")

COLUMNS = (*CORE, *TIMINGS, *CHECKS, VERSIONS, CONFIG)
"""All, in their order."""

LEFT_OUT = {
    "kind": "it is `run`",
    "training.history": "it has as many figures as there were epochs",
    "timings.batch": "it is in the columns' names",
}
"""What of a record is in no column, and why."""


def value_of(record: RunRecord, column: Column) -> Any:
    """What a record has at a column's source; None where there is nothing."""
    found: Any = record
    for part in column.source.split("."):
        found = found.get(part) if isinstance(found, dict) else getattr(found, part, None)
    return found
