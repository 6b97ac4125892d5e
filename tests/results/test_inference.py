"""Differences with their errors, and many of them at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flowbench.results.inference import Difference, bound_on_seeds, difference, holm, unpaired_difference

RNG = np.random.default_rng(0)


class TestDifference:
    def test_one_seed_a_side_is_the_paired_t_test(self):
        a, b = RNG.normal(size=(2, 50))
        b = b + 0.2
        found = difference([a], [b])
        rows = Difference(found.mean, found.rows_stderr, found.rows_dof, 0.0, 0)
        assert rows.p_above(0.0) == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)
        assert rows.p_below(0.0) == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)
        interval = stats.ttest_rel(a, b).confidence_interval(0.95)
        assert found.mean - rows.quantile(0.975) == pytest.approx(interval.low)

    def test_seeds_that_shift_all_rows_are_the_pooled_t_test(self):
        a, b = RNG.normal(size=4), RNG.normal(size=3)
        found = difference([np.full(9, x) for x in a], [np.full(9, x) for x in b])
        assert (found.rows_stderr, found.seeds_dof, found.dof) == (pytest.approx(0), 5, pytest.approx(5))
        assert found.p_above(0.0) == pytest.approx(stats.ttest_ind(a, b, alternative="less").pvalue)

    def test_both_sources_add(self):
        found = Difference(0.0, 3.0, 100, 4.0, 2)
        assert found.stderr == 5
        assert found.dof == pytest.approx(625 / (81 / 100 + 256 / 2))

    def test_identical_rows(self):
        a = RNG.normal(size=9)
        found = difference([a], [a])
        assert (found.stderr, found.p_above(0.0), found.p_above(0.1), found.p_below(-0.1)) == (0, 1, 0, 0)

    @pytest.mark.parametrize("a", [[1.0], [np.nan, 1.0], [-np.inf, 1.0]])
    def test_what_cannot_be_known_has_chance_one(self, a):
        found = difference([np.array(a)], [np.zeros(len(a))])
        assert found.p_above(0.0) == found.p_below(0.0) == 1.0
        assert not math.isfinite(found.quantile(0.95))

    def test_other_rows_are_refused(self):
        with pytest.raises(ValueError, match="same rows"):
            difference([np.zeros(3)], [np.zeros(4)])

    def test_unpaired_errors_add(self):
        found = unpaired_difference([(1.0, 0.3)], [(0.0, 0.4)], 100)
        assert (found.mean, found.rows_stderr, found.seeds_stderr) == (1.0, 0.5, None)
        several = unpaired_difference([(1.0, 0.3), (3.0, 0.3)], [(0.0, 0.4)], 100)
        assert (several.mean, several.seeds_dof) == (2.0, 1)
        assert several.seeds_stderr == pytest.approx(math.sqrt(2 * (1 / 2 + 1)))


def test_the_bound_on_seeds_covers_densities_that_differ_by_noise():
    """Two densities on a line of 200 points, each another's perturbation: two standard errors cover the difference."""
    inside = []
    for _ in range(500):
        weights = np.exp(0.3 * RNG.normal(size=(2, 200)))
        one, other = np.log(weights / weights.sum(axis=1, keepdims=True))
        loss, variance = np.mean(one - other), np.var(one - other)  # under the flat density, both's mean
        inside.append(abs(loss) <= 2 * bound_on_seeds(variance))
    assert np.mean(inside) > 0.99


class TestHolm:
    def test_the_paper_s_procedure(self):
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])

    def test_none(self):
        assert len(holm([])) == 0

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
    def test_between_none_and_bonferroni(self, p):
        adjusted = holm(p)
        assert (adjusted >= np.asarray(p) - 1e-15).all()
        assert (adjusted <= np.minimum(1, len(p) * np.asarray(p)) + 1e-15).all()
        assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()

    def test_one_false_rejection_in_twenty_tables(self):
        tables = RNG.uniform(size=(4_000, 18))
        assert 0.03 < np.mean([holm(p).min() <= 0.05 for p in tables]) < 0.06
