"""The streaming mean and variance against numpy's over all rows at once."""

import numpy as np
import pytest

from flowbench.data.moments import Moments

RNG = np.random.default_rng(0)


def moments(rows: np.ndarray, step: int) -> Moments:
    taken = Moments(rows.shape[1])
    for start in range(0, len(rows) + step, step):  # the last chunk is empty
        taken.add(rows[start : start + step])
    return taken


@pytest.mark.parametrize("step", [1, 7, 100, 5000])
@pytest.mark.parametrize("location", [0.0, 1e9])
def test_chunks_give_what_all_rows_give(step: int, location: float) -> None:
    scale = np.array([1e-3, 1, 1e3])
    rows = location + scale * RNG.normal(size=(1000, 3))
    found, exact = moments(rows, step), rows.astype(np.longdouble)
    assert (abs(found.mean - exact.mean(axis=0)) < 1e-15 * location + 1e-14 * scale).all()
    np.testing.assert_allclose(found.variance, exact.var(axis=0).astype(float), rtol=1e-13)
    np.testing.assert_array_equal(found.deviation, np.sqrt(found.variance))


def test_rows_in_single_precision_are_summed_in_double() -> None:
    rows = (100 + RNG.normal(size=(100_000, 2))).astype(np.float32)
    found = moments(rows, 1000)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(found.variance, rows.var(axis=0, dtype=np.float64), rtol=1e-10)


def test_a_constant_column_is_known_as_one() -> None:
    found = moments(np.column_stack([np.full(100, 0.1), RNG.normal(size=100)]), 7)
    assert found.constant.tolist() == [True, False]
    assert found.variance[0] == 0


def test_what_overflows_is_infinite_without_a_warning() -> None:
    assert not np.isfinite(moments(np.array([[1e308], [-1e308]]), 1).variance).any()
