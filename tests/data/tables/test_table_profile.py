"""Profiles of tables: what is found, whatever the batches; and the steps of columns."""

from __future__ import annotations

import numpy as np
import pytest

from flowbench.data.tables import profile as table_profile
from flowbench.data.tables.dependence import twins
from flowbench.data.tables.profile import Profile, Profiler
from flowbench.data.tables.steps import Steps

RNG = np.random.RandomState(0)


def profile(rows: np.ndarray, batch: int = 1000) -> Profile:
    profiler = Profiler([f"c{i}" for i in range(rows.shape[1])])
    for start in range(0, len(rows), batch):
        profiler.add(rows[start : start + batch])
    return profiler.profile()


def step(values: np.ndarray, batch: int = 100) -> float:
    steps = Steps(1)
    for start in range(0, len(values), batch):
        steps.add(np.float64(values[start : start + batch, None]))
    return float(steps.steps(np.abs(np.float64(values)).max(keepdims=True))[0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RNG.randint(0, 9, 1000), 1),
        (RNG.randint(0, 9, 1000) * 5 + 3, 5),
        (np.array([0, 1] * 500), 1),
        (RNG.randint(0, 10**6, 1000) / 100, 0.01),
        (np.float32(RNG.randint(0, 10**4, 1000) / 100), 0.01),
        (RNG.randint(0, 99, 1000) / 4, 0.25),
        (1.7e9 + RNG.randint(0, 10**6, 1000) / 10, 0.1),
        (RNG.randint(0, 9, 1000) * 1000 - 1e6, 1000),
        (np.float32(1e8 + RNG.normal(size=1000) * 1000), 8),
        (np.r_[np.full(1000, 3.0), 1.5], 1.5),
        (np.r_[RNG.randint(0, 9, 1000) * 3, 4.5], 1.5),
        (np.r_[np.full(1000, 7), RNG.randint(0, 9, 1000) / 10], 0.1),
    ],
)
def test_the_step_is_the_greatest_of_which_differences_are_multiples(values: np.ndarray, expected: float) -> None:
    assert step(values) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=1000),
        np.float32(RNG.normal(size=1000)),
        RNG.normal(size=10) * 1e9,
        np.float32(RNG.uniform(size=20)),
        np.r_[np.zeros(500), RNG.normal(size=500)],
        np.full(100, 0.7),
        RNG.randint(0, 256, 1000) / 255,
    ],
)
def test_what_has_no_step(values: np.ndarray) -> None:
    assert np.isnan(step(values))


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_values_that_are_missing_or_infinite_are_counted_with_their_first_row(batch: int) -> None:
    rows = RNG.normal(size=(100, 3))
    rows[[20, 30], 1] = np.nan
    rows[30, 2], rows[7, 0] = np.inf, -np.inf
    found = profile(rows, batch)
    assert (found.seen, found.rows, found.incomplete) == (100, 97, 2)
    assert found.missing.tolist() == [0, 2, 0]
    assert found.first_missing.tolist() == [0, 21, 0]
    assert found.infinite.tolist() == [1, 0, 1]
    assert found.first_infinite.tolist() == [8, 0, 31]
    whole = np.isfinite(rows).all(axis=1)
    np.testing.assert_array_equal(found.low, rows[whole].min(axis=0))
    np.testing.assert_array_equal(found.high, rows[whole].max(axis=0))


def test_ties_are_heavy_where_a_value_or_many_come_again() -> None:
    n = 5000
    atom = np.where(RNG.uniform(size=n) < 0.02, 0.5, RNG.normal(size=n))
    columns = {
        "normal": RNG.normal(size=n),
        "single": np.float32(RNG.normal(size=n)),
        "rounded": RNG.normal(size=n).round(3),
        "atom": atom,
        "whole": RNG.permutation(n) + 0.0,
        "constant": np.full(n, 2.5),
        "hardly rounded": RNG.normal(size=n).round(6),
    }
    found = profile(np.column_stack(list(columns.values())))
    assert [name for name, heavy in zip(columns, found.heavy, strict=True) if heavy] == ["rounded", "atom", "constant"]
    assert [name for name, x in zip(columns, found.discrete, strict=True) if x] == ["rounded", "atom", "whole"]
    assert found.common[3] == 0.5
    assert found.heaviest[3] == pytest.approx(np.mean(atom == 0.5))
    text = "\n".join(found.lines())
    assert text.startswith("5,000 rows of 7 columns\n")
    for expected in (
        "constant       'c5' (2.5)",
        "whole numbers  'c4' (step 1)",
        "'c3' (0.5 in",
        "missing        none",
    ):
        assert expected in text


@pytest.mark.parametrize("rows", [60, 3000])
def test_near_twins_are_none_by_projection_or_not(rows: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(rows, 50))
    table[:, 7] = 2 - 3 * table[:, 4]
    table[:, 49] = table[:, 4] + 0.02 * rng.normal(size=rows)  # a correlation of 0.9998
    table[:, 30] = 5  # constant
    found, correlation = twins(table)
    assert np.flatnonzero(found >= 0).tolist() == [7]
    assert (found[7], correlation[7]) == (4, pytest.approx(-1))


def test_twins_are_found_across_blocks_and_signs() -> None:
    rows = RNG.normal(size=(100, 2100))
    rows[:, 2000] = -3 * rows[:, 5] + 1e9
    rows[:, 1500] = rows[:, 5] * 1e-9
    rows[:, 7] = 1
    found, correlation = twins(rows)
    assert np.flatnonzero(found >= 0).tolist() == [1500, 2000]
    assert found[[1500, 2000]].tolist() == [5, 5]
    np.testing.assert_allclose(correlation[[1500, 2000]], [1, -1], atol=1e-9)


@pytest.mark.parametrize("batch", [1, 3, 64, 10_000])
def test_the_sample_is_evenly_spaced(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_profile, "SAMPLE_ROWS", 50)
    sample = table_profile.Sample(1)
    rows = np.arange(3001.0)[:, None]
    for start in range(0, len(rows), batch):
        sample.add(rows[start : start + batch])
    np.testing.assert_array_equal(sample.rows()[:, 0], np.arange(0, 3001, 32))
