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
    with pytest.raises(ValueError, match="a group for each value"):
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


def test_groups_of_one_have_the_error_of_independent_values():
    values = np.random.default_rng(0).normal(size=1000)
    found = stats.mean_and_stderr_by_group(values, np.random.default_rng(1).permutation(1000) - 7)
    assert found == pytest.approx(stats.mean_and_stderr(values), rel=1e-12)


def test_the_error_by_group_is_the_formula():
    # x̄ = 3, sums of the groups −5, 0, 5
    mean, stderr = stats.mean_and_stderr_by_group([1.0, 3.0, 0.0, 7.0, 4.0], [4, 9, 4, 0, 0])
    assert mean == 3
    assert stderr == pytest.approx(math.sqrt(3 / 2 * 50) / 5)


def test_the_error_by_group_is_the_spread_of_means_that_are_drawn_anew():
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        groups = np.repeat(np.arange(40), rng.integers(1, 60, 40))
        values = rng.normal(size=40)[groups] + rng.normal(size=len(groups))
        drawn.append((*stats.mean_and_stderr_by_group(values, groups), stats.mean_and_stderr(values)[1]))
    means, by_group, independent = np.transpose(drawn)
    assert by_group.mean() == pytest.approx(means.std(), rel=0.1)
    assert independent.mean() < means.std() / 3


def test_copies_of_rows_are_no_further_evidence():
    values = np.random.default_rng(0).normal(size=50)
    found = stats.mean_and_stderr_by_group(np.tile(values, 100), np.tile(np.arange(50), 100))
    assert found == pytest.approx(stats.mean_and_stderr(values))


def test_one_group_has_no_error_and_an_infinite_row_none_either():
    assert math.isnan(stats.mean_and_stderr_by_group([1.0, 2.0], [3, 3])[1])
    mean, stderr = stats.mean_and_stderr_by_group([1.0, -math.inf], [0, 1])
    assert mean == -math.inf
    assert math.isnan(stderr)


@pytest.mark.parametrize("groups", [[1], [1, 2, 3], [[1, 2]]])
def test_a_value_without_a_group_is_refused(groups):
    with pytest.raises(ValueError, match="shape"):
        stats.mean_and_stderr_by_group([1.0, 2.0], groups)
