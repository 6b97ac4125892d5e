"""Test and validation rows in files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_files import standardisation

from flowbench.data import Dataset, TableOptions, load
from flowbench.data.tables import arrays as table_arrays
from flowbench.data.tables import spool as table_spool
from flowbench.errors import DataError, FlowbenchError, UsageError

RNG = np.random.RandomState(0)


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame(RNG.normal([3, -1, 0], [2, 0.1, 1], (rows, 3)), columns=list("abc"))


TRAIN, VALIDATION, TEST = frame(200), frame(30), frame(40)
PARTS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and chunks of few rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table_spool, "CHUNK_VALUES", 50)
    monkeypatch.setattr(table_arrays, "BATCH_VALUES", 70)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The three files, as .csv and as .npy."""
    for name, table in zip(PARTS, (TRAIN, VALIDATION, TEST), strict=True):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        np.save(tmp_path / f"{name}.npy", table.to_numpy())
    return tmp_path


def loaded(
    folder: Path, data: str, test: str | None = None, validation: str | None = None, seed: int = 0, **options: object
) -> Dataset:
    test, validation = (None if name is None else str(folder / name) for name in (test, validation))
    table = TableOptions(**options)  # type: ignore[arg-type]
    return load(str(folder / data), split_seed=seed, table_options=table, test_data=test, validation_data=validation)


def refusal(folder: Path, *files: str | None, kind: type[FlowbenchError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        loaded(folder, *files, **options)  # type: ignore[arg-type]
    assert caught.value.hint
    return f"{caught.value} ({caught.value.hint})"


def rows(data: Dataset, part: str) -> np.ndarray:
    """A part in the table's own units."""
    location, scale = standardisation(data)
    return np.float64(getattr(data, part)) * scale + location


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_three_files_are_the_three_splits_in_their_order(kind: str, folder: Path) -> None:
    data = loaded(folder, *(f"{name}.{kind}" for name in ("train", "test", "validation")), seed=3)
    assert data.rows == (200, 30, 40)
    assert data.name == f"train.{kind}"
    assert data.split_seed is None
    for name, table in zip(PARTS, (TRAIN, VALIDATION, TEST), strict=True):
        np.testing.assert_allclose(rows(data, name), table.to_numpy(), atol=1e-5)
    location, scale = standardisation(data)
    np.testing.assert_allclose(location, TRAIN.to_numpy().mean(axis=0))
    np.testing.assert_allclose(scale, TRAIN.to_numpy().std(axis=0))


def test_what_has_no_file_is_drawn_from_the_table(folder: Path) -> None:
    data = loaded(folder, "train.csv", "test.csv", seed=3)
    assert data.rows == (180, 20, 40)
    assert data.split_seed == 3
    np.testing.assert_allclose(rows(data, "test"), TEST.to_numpy(), atol=1e-5)
    own = np.vstack([rows(data, "train"), rows(data, "validation")])
    np.testing.assert_allclose(own[own[:, 0].argsort()], TRAIN.sort_values("a").to_numpy(), atol=1e-5)
    last = loaded(folder, "train.csv", None, "validation.csv", split="time", test_fraction=0.2)
    assert last.rows == (160, 30, 40)
    np.testing.assert_allclose(rows(last, "test"), TRAIN.to_numpy()[-40:], atol=1e-5)
    assert not np.array_equal(data.train, loaded(folder, "train.csv", "test.csv", seed=4).train)


def test_what_would_split_nothing_is_refused(folder: Path) -> None:
    files = ("train.csv", "test.csv", "validation.csv")
    assert "--split has no effect" in refusal(folder, *files, kind=UsageError, split="time")
    assert "--test-fraction has no effect" in refusal(folder, *files, kind=UsageError, test_fraction=0.2)
    with pytest.raises(UsageError, match="splits of its own"):
        load("digits", test_data=str(folder / "test.csv"))


def test_the_files_and_what_they_are_for_decide_the_fingerprint(folder: Path) -> None:
    found = [
        loaded(folder, "train.csv"),
        loaded(folder, "train.csv", "test.csv"),
        loaded(folder, "train.csv", "validation.csv"),
        loaded(folder, "train.csv", None, "test.csv"),
        loaded(folder, "train.csv", "test.csv", "validation.csv"),
        loaded(folder, "train.csv", "validation.csv", "test.csv"),
    ]
    assert len({data.fingerprint for data in found}) == len(found)
    again = loaded(folder, "train.csv", "test.csv", "validation.csv", seed=7)
    assert again.fingerprint == found[4].fingerprint
