"""HEPMASS on made files: signal rows, the training header that lacks a name, and the columns that repeat."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_files import put, same

from flowbench.data import load, recipe
from flowbench.data.preparing.columns import varied
from flowbench.data.sources import raw
from flowbench.errors import DataError

SPIKED_BELOW, SIX, FIVE, SPIKED_WITHIN = 2, 5, 8, 11


def hepmass_rows(n: int, seed: int) -> np.ndarray:
    """Label, then 27 features: two with two values only, one with its smallest value six times and one five times among
    the signal, and one with a spike above its smallest value."""
    rng = np.random.RandomState(seed)
    rows = np.hstack([rng.randint(0, 2, (n, 1)), rng.normal(size=(n, 27))])
    rows[:, 1 + SPIKED_BELOW] = rng.randint(0, 2, n)
    rows[:, 1 + 20] = rng.choice([-0.7, 1.4], n)
    signal = np.flatnonzero(rows[:, 0] == 1)
    rows[signal[:6], 1 + SIX] = -9
    rows[signal[:5], 1 + FIVE] = -9
    rows[np.flatnonzero(rows[:, 0] == 0)[:40], 1 + FIVE] = -9  # of the background: nothing to do with it
    rows[signal[: len(signal) // 2], 1 + SPIKED_WITHIN] = 0.25
    return rows


def hepmass_csv(rows: np.ndarray, names: int) -> bytes:
    header = ",".join(["# label", *(f"f{i}" for i in range(names))])
    body = "\n".join(",".join(f"{value:.18e}" for value in row) for row in rows)
    return f"{header}\n{body}\n".encode()


def reference_hepmass(train_csv: bytes, test_csv: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The published steps, with pandas (gpapamak/maf, datasets/hepmass.py)."""
    with pytest.warns(pd.errors.ParserWarning):
        train = pd.read_csv(io.BytesIO(train_csv), index_col=False)
    test = pd.read_csv(io.BytesIO(test_csv), index_col=False)
    train, test = (data[data["# label"] == 1].drop(columns="# label") for data in (train, test))
    test = test.drop(columns=test.columns[-1])
    mean, std = train.mean(), train.std()
    rows, test_rows = ((train - mean) / std).to_numpy(), ((test - mean) / std).to_numpy()
    keep = [i for i, column in enumerate(rows.T) if sorted(Counter(column).items())[0][1] <= 5]
    return rows[:, keep], test_rows[:, keep]


@pytest.fixture
def hepmass() -> tuple[bytes, bytes]:
    """The training header lacks a name; the test file's is whole."""
    return hepmass_csv(hepmass_rows(2000, 0), 26), hepmass_csv(hepmass_rows(1000, 1), 27)


def test_hepmass_follows_the_published_steps(hepmass: tuple[bytes, bytes], folder: Path) -> None:
    put(folder / "data/hepmass/1000_train.csv", hepmass[0])
    put(folder / "data/hepmass/1000_test.csv", hepmass[1])
    splits = recipe("hepmass").prepare(raw.find(recipe("hepmass").CARD), np.random.RandomState(42))
    rows, test = reference_hepmass(*hepmass)
    n = len(rows)
    assert splits.rows == (n - n // 10, n // 10, len(test))
    assert splits.columns == tuple(f"f{i}" for i in range(26) if i not in (SPIKED_BELOW, SIX, 20))
    np.testing.assert_allclose(np.vstack([splits.train, splits.validation]), rows, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(splits.test, test, rtol=1e-9, atol=1e-12)


def test_hepmass_raw_and_ready_made_are_the_same(
    hepmass: tuple[bytes, bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(recipe("hepmass").CARD), "dim", 23)
    for name, content in zip(("1000_train.csv", "1000_test.csv"), hepmass, strict=True):
        put(folder / "data/hepmass" / name, content)
    ready_made = load("hepmass", allow_partial=True)
    for name, content in zip(("1000_train.csv", "1000_test.csv"), hepmass, strict=True):
        put(folder / "hepmass" / f"{name}.gz", gzip.compress(content))
    same(ready_made, load("hepmass", allow_partial=True))
    for path in (folder / "hepmass").iterdir():
        path.unlink()
    put(folder / "hepmass/1000_train.csv", hepmass[0])
    put(folder / "hepmass/1000_test.csv.gz", gzip.compress(hepmass[1]))
    same(ready_made, load("hepmass", allow_partial=True))


def test_hepmass_reads_no_further_than_the_ready_made_files_go(
    hepmass: tuple[bytes, bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it: Any = recipe("hepmass")
    for name, content in zip(("1000_train.csv", "1000_test.csv"), hepmass, strict=True):
        put(folder / "hepmass" / name, content)
    monkeypatch.setattr(it, "_MOST_ROWS", {"1000_train.csv": 1500, "1000_test.csv": 700})
    splits = it.prepare(raw.find(it.CARD), np.random.RandomState(42))
    train, test = hepmass_rows(2000, 0)[:1500], hepmass_rows(1000, 1)[:700]
    assert sum(splits.rows[:2]) == (train[:, 0] == 1).sum()
    assert splits.rows[2] == (test[:, 0] == 1).sum()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# label\n1\n",
        b"# label,f0,f1\n1.0,2.0\n",
        b"# label,f0,f1\n1.0,2.0,text\n",
        b"# label,f0\n1,2\n1\n",
        b"\xff\xfe,\n",
    ],
)
def test_hepmass_of_another_shape_is_refused(content: bytes, folder: Path) -> None:
    for name in ("1000_train.csv", "1000_test.csv"):
        put(folder / "hepmass" / name, content)
    with pytest.raises(DataError, match=r"1000_train\.csv"):
        load("hepmass", allow_partial=True)


def test_hepmass_cut_short_is_refused(hepmass: tuple[bytes, bytes], folder: Path) -> None:
    packed = gzip.compress(hepmass[0])
    put(folder / "hepmass/1000_train.csv.gz", packed[: len(packed) // 2])
    put(folder / "hepmass/1000_test.csv.gz", packed)
    with pytest.raises(DataError, match=r"cannot read .*1000_train\.csv\.gz"):
        load("hepmass", allow_partial=True)


def test_varied_counts_the_smallest_value_alone() -> None:
    n = 20
    five, six = np.arange(n, dtype=float), np.arange(n, dtype=float)
    five[:5], six[:6] = -1, -1
    spiked = np.arange(n, dtype=float)
    spiked[1:] = 7
    np.testing.assert_array_equal(varied(np.column_stack([five, six, spiked])), [True, False, True])
