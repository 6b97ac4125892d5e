"""Ratios of pairs with chance in them, and the verdicts on them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowbench.results.costs import Pair
from flowbench.results.inference import Ratio
from flowbench.results.slowdown import LOOKS, judge

FIRST = LOOKS[0]


def pairs(ratio=1.0, spread=0.02, n=FIRST, seed=0):
    """Pairs whose ratios have this geometric mean exactly, and logarithms of this standard deviation."""
    noise = np.random.default_rng(seed).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * spread
    return [Pair(baseline_us=100.0, new_us=100 * ratio * math.exp(x)) for x in noise]


class TestRatio:
    def test_the_geometric_mean(self):
        assert Ratio([0.5, 2.0]).value == pytest.approx(1)

    @pytest.mark.parametrize("n", [7, 14])
    def test_its_level_holds_where_pairs_are_few(self, n):
        rng = np.random.default_rng(1)
        p = np.array([Ratio(np.exp(rng.normal(size=n))).p_below(1.0) for _ in range(1000)])
        for level in (0.05, 0.2):  # the usual bootstrap of 7 gives 0.08 in the place of 0.05
            assert np.mean(p <= level) == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / 1000))

    def test_its_interval_covers(self):
        rng = np.random.default_rng(2)
        found = [Ratio(np.exp(rng.normal(size=FIRST))).interval() for _ in range(600)]
        assert np.mean([low <= 1 <= high for low, high in found]) == pytest.approx(0.95, abs=0.03)

    def test_above_and_below_are_mirrored(self):
        up, down = Ratio([1.1, 1.2, 1.15, 1.3]), Ratio([1 / 1.1, 1 / 1.2, 1 / 1.15, 1 / 1.3])
        assert up.p_below(1.0) == pytest.approx(down.p_above(1.0))
        assert up.p_below(1.0) < 0.05 < 0.95 < up.p_above(1.0)

    def test_one_value_tells_nothing(self):
        one = Ratio([3.0])
        assert (one.p_below(1.0), one.p_above(9.0), one.interval(), one.least_found(1.1, 0.05, 0.95)) == (
            1,
            1,
            None,
            None,
        )

    def test_values_that_are_all_the_same_are_certain(self):
        same = Ratio([1.2] * 7)
        assert same.p_below(1.1) < 1e-3
        assert same.p_above(1.1) == 1
        assert same.interval() == pytest.approx((1.2, 1.2))

    def test_the_least_found_is_found_that_often(self):
        ratio = Ratio([pair.ratio for pair in pairs(spread=0.03)])
        least = ratio.least_found(1.1, 0.05, 0.95)
        rng = np.random.default_rng(3)
        drawn = (Ratio(least * np.exp(rng.normal(0, 0.03, FIRST))) for _ in range(600))
        assert np.mean([found.p_below(1.1) <= 0.05 for found in drawn]) == pytest.approx(0.95, abs=0.05)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("ratio", "spread", "verdict"),
        [
            (1.0, 0.02, "same"),
            (1.05, 0.01, "same"),
            (1.2, 0.02, "worse"),
            (0.8, 0.02, "better"),
            (1.0, 0.3, "undecided"),
            (1.2, 0.3, "undecided"),
            (1.1, 0.02, "undecided"),
        ],
    )
    def test_by_ratio_and_noise(self, ratio, spread, verdict):
        assert judge([pairs(ratio, spread)], 1.1)[0].verdict == verdict

    def test_the_margin(self):
        assert judge([pairs(1.2)], 1.5)[0].verdict == "same"
        assert judge([pairs(1.1, 0.01)], 1.03)[0].verdict == "worse"

    def test_chance_seldom_looks_slower_in_any_line_of_a_table(self):
        rng = np.random.default_rng(4)
        tables = [
            judge(
                [[Pair(baseline_us=1, new_us=1.1 * math.exp(x)) for x in rng.normal(0, 0.05, FIRST)] for _ in range(6)],
                1.1,
            )
            for _ in range(100)
        ]
        assert np.mean([any(line.verdict == "worse" for line in table) for table in tables]) <= 0.05

    def test_in_a_larger_table_more_is_needed(self):
        one = judge([pairs(1.2, 0.07)], 1.1)[0]
        among = judge([pairs(1.2, 0.07), *([pairs()] * 20)], 1.1)[0]
        assert (one.verdict, among.verdict) == ("worse", "undecided")
        assert among.least_found > one.least_found

    def test_no_lines(self):
        assert judge([], 1.1) == []
