"""GAS on made files: which sensors stay, in which order and scale, from the text and from a frame of 2017."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import python2_pickles as python2
from made_files import put, zipped

from flowbench.data import load, recipe
from flowbench.data.sources import raw
from flowbench.errors import DataError


def sensors(n: int = 1000) -> np.ndarray:
    """16 columns: 0, 3 and 7 nearly the same, 5 and 12 too, 9 the negative of 10, and 14 correlates at 0.97 with 15."""
    rng = np.random.RandomState(0)
    rows = rng.normal(size=(n, 16)) * rng.uniform(1, 1e4, 16) + rng.uniform(-1e4, 1e4, 16)
    for of, copies in ((0, (3, 7)), (5, (12,))):
        for copy in copies:
            rows[:, copy] = 3 * rows[:, of] + 0.01 * rows[:, of].std() * rng.normal(size=n)
    rows[:, 9] = -rows[:, 10]
    standard = (rows[:, 15] - rows[:, 15].mean()) / rows[:, 15].std()
    rows[:, 14] = standard + 0.25 * rng.normal(size=n)
    assert 0.965 < np.corrcoef(rows[:, 14], rows[:, 15])[0, 1] < 0.98
    return rows


def gas_text(rows: np.ndarray) -> bytes:
    header = "Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)\n"
    leading = [f"{i / 100:.2f}    0.00    {i % 7}.00" for i in range(len(rows))]
    values = ["    ".join(repr(float(value)) for value in row) for row in rows]
    return (header + "".join(f"{a}\t{b} \n" for a, b in zip(leading, values, strict=True))).encode()


def gas_frame(rows: np.ndarray) -> bytes:
    """Three columns to drop in front, in a block of 19 columns, as pandas of 2017 pickles it."""
    leading = np.random.RandomState(1).normal(size=(len(rows), 3))
    names = ["Time", "Meth", "Eth", *(f"R{i}" for i in range(1, 17))]
    return python2.dump(python2.frame(names, [(np.hstack([leading, rows]).T.copy(), python2.places(0, 19))]))


def reference_gas(rows: np.ndarray) -> pd.DataFrame:
    """The published steps, with pandas (gpapamak/maf, datasets/gas.py)."""
    data = pd.DataFrame(rows, columns=[f"R{i}" for i in range(1, 17)])
    while (related := (data.corr() > 0.98).to_numpy().sum(axis=1) > 1).any():
        data = data.drop(columns=data.columns[np.flatnonzero(related)[0]])
    return (data - data.mean()) / data.std()


def test_gas_ready_made_follows_the_published_steps(folder: Path) -> None:
    rows = sensors()
    put(folder / "gas/ethylene_CO.pickle", gas_frame(rows))
    with pytest.raises(DataError, match="its card says 8 columns"):
        load("gas", allow_partial=True)  # made sensors leave 13 columns, the card says 8
    splits = recipe("gas").prepare(raw.find(recipe("gas").CARD), np.random.RandomState(42))
    expected = reference_gas(rows)
    assert splits.columns == tuple(expected.columns) == tuple(f"R{i + 1}" for i in range(16) if i not in (0, 3, 5))
    assert splits.rows == (810, 90, 100)
    np.testing.assert_allclose(
        np.vstack([splits.train, splits.validation, splits.test]), expected, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", ["gas+sensor+array+under+dynamic+gas+mixtures.zip", "data.zip", "ethylene_CO.txt"])
def test_gas_text_gives_a_quarter_of_the_rows_in_random_order(name: str, folder: Path) -> None:
    rows = sensors(801)
    text = gas_text(rows)
    put(folder / "gas" / name, zipped("folder/ethylene_CO.txt", text) if name.endswith(".zip") else text)
    splits = recipe("gas").prepare(raw.find(recipe("gas").CARD), np.random.RandomState(42))
    assert splits.rows == (162, 18, 20)
    drawn = np.random.RandomState(42).permutation(801)[:200]
    assert sorted(drawn) != list(drawn)
    expected = reference_gas(rows[drawn])
    assert splits.columns == tuple(name.replace("R", "sensor_") for name in expected.columns)
    np.testing.assert_allclose(
        np.vstack([splits.train, splits.validation, splits.test]), expected, rtol=1e-6, atol=1e-9
    )


def test_gas_drops_the_first_of_those_that_correlate_until_none_do() -> None:
    uncorrelated: Any = recipe("gas").uncorrelated  # type: ignore[attr-defined]
    rng = np.random.RandomState(0)
    a, b, constant = *rng.normal(size=(2, 500)).tolist(), [1.0] * 500
    near = (np.array(a) + 0.05 * rng.normal(size=500)).tolist()
    assert uncorrelated(np.array([a, a, b, a]).T) == [2, 3]
    assert uncorrelated(np.array([a, b, near, constant]).T) == [1, 2, 3]
    assert uncorrelated(np.array([a, (-np.array(a)).tolist(), b]).T) == [0, 1, 2]


def test_gas_without_the_columns_to_drop_is_refused(folder: Path) -> None:
    content = python2.frame([f"R{i}" for i in range(19)], [(np.ones((19, 5)), python2.places(0, 19))])
    put(folder / "gas/ethylene_CO.pickle", python2.dump(content))
    with pytest.raises(DataError, match=r"ethylene_CO\.pickle: .*Meth"):
        load("gas", allow_partial=True)
