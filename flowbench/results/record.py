"""The row of a run: one JSON file a run, its per-row test log-likelihoods beside it. Never imports torch.

The JSON is strict: a figure that is not a finite number is ``null``. Settings may be infinite; they are written as TOML
spells them (``"inf"``, ``"-inf"``, ``"nan"``), which the configuration reads back.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FiniteFloat, StringConstraints
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import to_jsonable_python

from flowbench.console import warn
from flowbench.errors import FlowbenchError
from flowbench.files import write_together

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
"""Raised when a reader of the old rows would misunderstand the new ones; a new optional field does not need it."""


class UnreadableRowError(FlowbenchError):
    """A file of results that is damaged, or that a newer flowbench wrote (exit 1)."""


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Settings as strict JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


Figure = Annotated[float | None, AfterValidator(_finite_or_none)]
"""A finite number, or None where there is none: NaN and infinities become None."""

Settings = Annotated[dict[str, Any], BeforeValidator(lambda config: _plain(to_jsonable_python(config)))]

FileStem = Annotated[str, StringConstraints(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$")]
"""A name that stays inside the results folder and is not hidden there."""


class _Frozen(BaseModel):
    # a newer flowbench may have added fields: unknown keys are passed over, not refused
    model_config = ConfigDict(frozen=True, extra="ignore")


class Check(_Frozen):
    """A closing check of a run: ``value`` was held against ``limit``; None where it was not a finite number."""

    value: Figure
    limit: FiniteFloat
    passed: bool
    what: str


class Timing(_Frozen):
    """What a density and a sample cost at one batch size: medians and quartiles in microseconds per row.

    The first calls (compilation, allocation) stand apart and are in no median.
    """

    batch: int
    density_us_per_row: FiniteFloat
    density_us_per_row_q1: FiniteFloat
    density_us_per_row_q3: FiniteFloat
    sampling_us_per_row: FiniteFloat
    sampling_us_per_row_q1: FiniteFloat
    sampling_us_per_row_q3: FiniteFloat
    runs: int
    first_density_us_per_row: FiniteFloat
    first_sampling_us_per_row: FiniteFloat


class Environment(_Frozen):
    """Where a run took place."""

    device: str
    device_name: str
    threads: int
    dtype: str
    versions: dict[str, str]
    git_revision: str | None
    platform: str


class Row(_Frozen):
    """One run. Log-likelihoods are means over a whole split in nats, in the space the flow was trained in (``space``).

    ``run`` is the file's stem. ``*_stderr`` are standard errors of a mean over test rows (not over seeds); printed
    intervals are twice that, as in the papers. ``nats_below_truth`` is the mean over test rows of the true log-density
    minus the flow's, its error that of the paired differences. ``started_at`` is ISO 8601 in UTC.
    ``dequantised`` are the columns of an own table that uniform noise was added to, and its width in their units.
    """

    schema_version: int = SCHEMA_VERSION
    run: FileStem
    status: Literal["ok", "diverged", "failed", "interrupted"]
    error: str | None = None

    flow: str
    data: str
    data_version: int
    data_fingerprint: str
    partial: bool
    dequantised: dict[str, float] = {}
    space: str
    dim: int
    n_train: int
    n_validation: int
    n_test: int

    recipe: str
    seed: int
    config: Settings
    config_hash: str

    parameters: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    train_seconds: Figure = None
    train_rows_per_second: Figure = None

    train_ll_nats: Figure = None
    validation_ll_nats: Figure = None
    test_ll_nats: Figure = None
    test_ll_stderr_nats: Figure = None
    gaussian_test_ll_nats: Figure = None
    gaussian_test_ll_stderr_nats: Figure = None
    bits_per_pixel: Figure = None
    bits_per_pixel_stderr: Figure = None
    true_test_ll_nats: Figure = None
    nats_below_truth: Figure = None
    nats_below_truth_stderr: Figure = None
    test_ll_own_units_nats: Figure = None

    checks: dict[str, Check] = {}
    density_passes: int | None = None
    sampling_passes: int | None = None
    timings: list[Timing] = []

    environment: Environment
    started_at: str
    total_seconds: Figure = None


def results_dir(out: Path | None = None) -> Path:
    """The folder of results: ``--out``, else ``FLOWBENCH_RESULTS_DIR``, else ``results`` in the working folder."""
    return Path(out or os.environ.get("FLOWBENCH_RESULTS_DIR") or "results").expanduser()


def write(row: Row, folder: Path, test_lls: NDArray[np.floating[Any]] | None = None) -> Path:
    """Write ``<folder>/<row.run>.json`` and return its path.

    ``test_lls`` (N_test,), the per-row test log-likelihoods in nats, go beside it as float64 ``.npy``; without them an
    older run's are removed. Whoever reads meanwhile sees the old files or the new ones, never half of one. Raises
    UsageError where they cannot be written, and then leaves no temporary file.
    """
    path = folder / f"{row.run}.json"
    likelihoods = path.with_suffix(".npy")
    # validated once more, because model_copy(update=...) may have carried a NaN past the validators
    document = Row.model_validate(row.model_dump()).model_dump(mode="json")
    files = {path: (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()}
    if test_lls is not None:
        files = {likelihoods: _npy(test_lls)} | files
    write_together(files)
    if test_lls is None:
        likelihoods.unlink(missing_ok=True)
    return path


def read(path: Path) -> Row:
    """The row in a file. Raises UnreadableRowError, naming the file, where it is damaged or of a newer schema."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableRowError(f"{path} is not readable JSON: {error}", "move it away, or run it again") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UnreadableRowError(
            f"{path} has schema version {version}, this flowbench knows {SCHEMA_VERSION}", "upgrade flowbench"
        )
    try:
        return Row.model_validate(document)
    except PydanticValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableRowError(f"{path} is not a row of results: {where}: {first['msg']}") from error


def read_all(folder: Path) -> list[Row]:
    """All rows under ``folder``, subfolders too, in the order of their paths; a file that is none is warned about."""
    paths = (path for path in sorted(folder.rglob("*.json")) if not path.name.startswith("time-"))  # costs.py's
    rows = (_read_or_warn(path) for path in paths)
    return [row for row in rows if row is not None]


def read_test_lls(path: Path) -> NDArray[np.float64] | None:
    """The per-row test log-likelihoods (N_test,) in nats beside the row's file ``path``; None where there are none.

    Raises UnreadableRowError where the file is damaged.
    """
    likelihoods = path.with_suffix(".npy")
    try:
        return np.asarray(np.load(likelihoods, allow_pickle=False), dtype=np.float64)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableRowError(f"{likelihoods} is damaged: {error}", "run it again with --force") from error


def finished(folder: Path, run: str) -> Row | None:
    """The row of ``run`` if it is there and ended ``ok``: no other run is ever taken for done."""
    path = folder / f"{run}.json"
    row = _read_or_warn(path) if path.exists() else None
    return row if row is not None and row.status == "ok" else None


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One line a run, nested fields flat: ``config.batch``, ``timings.100.density_us_per_row``, ``checks.x.value``."""
    import pandas as pd  # half a second that `flowbench compare` can do without

    return pd.DataFrame([_flat(row) for row in rows])


def _flat(row: Row) -> dict[str, Any]:
    nested = row.model_dump()
    nested["timings"] = {timing.pop("batch"): timing for timing in nested["timings"]}
    return dict(_leaves(nested, ""))


def _leaves(nested: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_or_warn(path: Path) -> Row | None:
    try:
        return read(path)
    except UnreadableRowError as error:
        warn(f"passed over: {error}" + (f" ({error.hint})" if error.hint else ""))
        return None


def _npy(values: NDArray[np.floating[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype=np.float64), allow_pickle=False)
    return buffer.getvalue()
