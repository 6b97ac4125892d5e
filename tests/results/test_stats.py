import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flowbench.results import statistics as stats


def test_the_standard_error_is_the_sample_deviation_over_root_n():
    mean, stderr = stats.mean_and_stderr([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert stderr == pytest.approx(math.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 3 / 4))  # ddof = 1


def test_float32_values_are_averaged_in_float64():
    values = np.full(100_001, 0.1, dtype=np.float32)
    mean, _ = stats.mean_and_stderr(values)
    assert mean == pytest.approx(float(np.float32(0.1)), rel=1e-14)


def test_a_constant_far_from_zero_does_not_drown_the_error():
    offset = 1e9 + np.tile([-1.0, 1.0], 500)
    assert stats.mean_and_stderr(offset)[1] == pytest.approx(1 / math.sqrt(999), rel=1e-6)


def test_one_value_has_no_error():
    mean, stderr = stats.mean_and_stderr([3.0])
    assert mean == 3.0
    assert math.isnan(stderr)


def test_an_infinite_row_is_not_averaged_away():
    mean, stderr = stats.mean_and_stderr([0.0, -math.inf, 1.0])
    assert mean == -math.inf
    assert math.isnan(stderr)


@pytest.mark.parametrize("values", [[], 1.0, [[1.0, 2.0]]])
def test_what_is_not_a_list_of_values_is_refused(values):
    with pytest.raises(ValueError, match="shape"):
        stats.mean_and_stderr(values)


def test_windows_of_few_photographs_have_the_error_of_the_photographs():
    rng = np.random.default_rng(0)
    photographs = rng.normal(size=50)
    values = np.repeat(photographs, 100) + 0.01 * rng.normal(size=5000)
    mean, stderr = stats.mean_and_stderr_by_group(values, np.repeat(np.arange(50), 100))
    assert mean == values.mean()
    assert stderr == pytest.approx(stats.mean_and_stderr(photographs)[1], rel=0.01)
    assert stats.mean_and_stderr(values)[1] < stderr / 9
    each_its_own = stats.mean_and_stderr_by_group(values, np.arange(5000))
    assert each_its_own == pytest.approx(stats.mean_and_stderr(values))
    assert math.isnan(stats.mean_and_stderr_by_group(values, np.zeros(5000))[1])
    with pytest.raises(ValueError, match="one group a value"):
        stats.mean_and_stderr_by_group(values, [1])


def test_pairing_removes_what_the_rows_have_in_common():
    rng = np.random.default_rng(0)
    hardness = rng.normal(scale=100.0, size=10_000)
    better = hardness + 0.5 + rng.normal(scale=0.1, size=10_000)
    mean, stderr = stats.paired_difference(better, hardness)
    assert mean == pytest.approx(0.5, abs=0.01)
    assert stderr == pytest.approx(0.1 / math.sqrt(10_000), rel=0.05)
    assert stderr < stats.mean_and_stderr(better)[1] / 500


finite = st.floats(-1e6, 1e6)


@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 50)), elements=finite), finite)
def test_a_difference_turns_its_sign_with_its_arguments(a, shift):
    there, back = stats.paired_difference(a + shift, a), stats.paired_difference(a, a + shift)
    assert there == (-back[0], back[1])


@pytest.mark.parametrize("other", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_rows_that_are_no_pairs_are_refused_and_not_broadcast(other):
    with pytest.raises(ValueError, match="shape"):
        stats.paired_difference([1.0, 2.0], other)
