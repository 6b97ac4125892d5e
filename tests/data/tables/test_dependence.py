"""Columns that follow from others: found with those others, exactly, and not where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbench.data import Dataset, TableOptions, load
from flowbench.data.tables.dependence import EXACT, NEARLY, Dependence, dependences
from flowbench.errors import DataError

N = 600


@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(3, 12),
    count=st.integers(2, 5),
    rows=st.integers(20, 300),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    scale=st.sampled_from([1e-100, 1e-3, 1.0, 1e7, 1e100]),
)
@settings(max_examples=150, deadline=None)
def test_a_combination_is_found_with_the_columns_in_it(
    seed: int, dim: int, count: int, rows: int, offset: float, scale: float
) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, dim)) @ np.triu(random.normal(size=(dim, dim)) / 3, 1) + random.normal(
        size=(rows, dim)
    )
    others = sorted(random.choice(dim, min(count, dim - 1), replace=False).tolist())
    coefficients = random.choice([-1, 1], len(others)) * random.uniform(0.1, 3, len(others))
    together = x[:, others] @ coefficients
    x = (np.c_[x, together] + offset) * scale
    (found,) = dependences(x)
    assert found.column == dim
    assert found.others == tuple(others)
    assert found.exact
    assert dependences(x[:, :dim]) == ()


@pytest.mark.parametrize("seed", range(50))
def test_none_is_found_where_there_is_none(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, dim = [(1, 3), (2, 2), (3, 9), (4, 1), (5, 5), (40, 100), (200, 30), (1000, 8), (30, 28), (600, 1)][seed % 10]
    x = random.normal(size=(rows, dim))
    x = [x, np.exp(x), np.floor(x * 3), np.where(random.random(x.shape) < 0.3, np.nan, x), x * 1e300][seed // 10]
    if seed // 10 != 2 or rows > 300:  # few whole numbers can follow from each other by chance
        assert dependences(x) == ()
    else:
        dependences(x)


def test_every_kind_of_combination() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(N, 5))
    one_hot = np.eye(4)[random.integers(4, size=N)]
    assert dependences(one_hot) == (Dependence(3, (0, 1, 2), pytest.approx(0, abs=1e-12)),)
    first, second = dependences(np.c_[x, x[:, 0] - x[:, 1], x[:, 2] + x[:, 3] + x[:, 4]])
    assert (first.column, first.others, second.column, second.others) == (5, (0, 1), 6, (2, 3, 4))
    # one that follows is not what a third follows from
    assert [each.others for each in dependences(np.c_[x, x[:, 0] + x[:, 1], 2 * x[:, 0] + 3 * x[:, 1]])] == [(0, 1)] * 2
    (small,) = dependences(np.c_[x, 1e5 * x[:, 0] + x[:, 1]])
    assert small.others == (0, 1)
    (single,) = dependences(np.float64(np.float32(np.c_[x, x[:, 0] + x[:, 1]])))
    assert single.exact
    lacking = np.c_[x, x[:, 0] + x[:, 1]]
    lacking[:200, 2] = np.nan
    assert [each.others for each in dependences(lacking)] == [(0, 1)]
    assert [each.others for each in dependences(np.c_[x[:8], x[:8, 0] + x[:8, 1]][:, [0, 1, 5]])] == [(0, 1)]


@pytest.mark.parametrize("left", [2e-6, 1e-4, 5e-4])
def test_what_is_nearly_one_is_no_exact_one(left: float) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(N, 3))
    together = x[:, 0] + x[:, 2]
    (found,) = dependences(np.c_[x, together + left * together.std() * random.normal(size=N)])
    assert found.others == (0, 2)
    assert found.left == pytest.approx(left, rel=0.1)
    assert EXACT < left < NEARLY
    assert not found.exact
    assert dependences(np.c_[x, together + 3 * NEARLY * random.normal(size=N)]) == ()


def loaded(folder: Path, frame: pd.DataFrame, **options: Any) -> Dataset:
    frame.to_csv(folder / "t.csv", index=False)
    return load(str(folder / "t.csv"), table_options=TableOptions(**options))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(random.normal(size=(N, 3)), columns=["a", "b", "z"])


def test_a_sum_is_refused_by_the_names_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, frame().assign(c=lambda x: x["a"] + x["b"]))
    assert "t.csv: column 'c' follows from 'a', 'b', as a linear combination" in str(caught.value)
    assert "there is no density" in str(caught.value)
    assert "--drop-columns c" in (caught.value.hint or "")


def test_nearly_a_sum_is_remarked_on(tmp_path: Path) -> None:
    noise = 1e-5 * np.random.default_rng(1).normal(size=N)
    data = loaded(tmp_path, frame().assign(c=lambda x: x["a"] - x["b"] + noise))
    (remark,) = data.remarks
    assert "column 'c' follows from 'a', 'b', but for 7e-06 of its standard deviation" in remark
    assert np.isfinite(data.gaussian_lls).all()  # it has one: what has none was refused


def test_noise_makes_a_density_of_what_is_whole_and_a_mass_needs_none(tmp_path: Path) -> None:
    kind = np.random.default_rng(1).integers(3, size=N)
    hot = frame().assign(**{f"is{i}": (kind == i) * 1 for i in range(3)})
    (remark,) = loaded(tmp_path, hot, dequantise=True).remarks
    assert "column 'is2' follows from 'is0', 'is1', but for the noise that they got" in remark
    assert loaded(tmp_path, hot, likelihood="mass").remarks == ()
    with pytest.raises(DataError, match="'is2' follows from 'is0', 'is1'"):
        loaded(tmp_path, hot, allow_ties=("all",))


def test_a_column_that_is_zero_in_all_rows_looked_at_is_no_part_of_anything() -> None:
    rows = np.random.default_rng(0).normal(size=(20_009, 3))
    others = np.flatnonzero(np.arange(20_009) % 19)[:18_000]  # so that its mean is 0, too
    rows[:, 0] = 0
    rows[others, 0] = np.resize([1, -1], 18_000)
    assert dependences(rows) == ()
    assert dependences(np.stack([np.zeros(100), rows[:100, 1]], 1)) == ()
