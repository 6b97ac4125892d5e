"""What is said of times and memory that were held against a baseline's."""

from __future__ import annotations

import pytest
from records import ENVIRONMENT

from flowbench.report.gate import costs as gate
from flowbench.report.gate.findings import exit_code
from flowbench.results.costs import ComparedMemory, ComparedTime, CostComparison, Pair, Side

SIDE = Side(python="python", package="flowbench", environment=ENVIRONMENT)


def found(times=(), memory=(), slowdown=1.1):
    record = CostComparison(
        run="r", data="d3", settings={}, baseline=SIDE, new=SIDE, environment=ENVIRONMENT, started_at="2026-01-01"
    )
    record = record.model_copy(update={"times": list(times), "memory": list(memory)})
    return gate.findings(record, slowdown, 1.1)


def ratios(*values):
    return [Pair(baseline_us=100.0, new_us=100 * value) for value in values]


SAME, SLOWER = ratios(1.0, 1.01, 0.99, 1.0, 1.02), ratios(1.3, 1.31, 1.29, 1.3, 1.32)


def line(pairs, again=(), **more):
    return ComparedTime(title="maf", work="density", batch=10, pairs=list(pairs), again=list(again), **more)


class TestTimes:
    @pytest.mark.parametrize(
        ("pairs", "again", "verdict"),
        [
            (SAME, [], "same"),
            (SLOWER, SLOWER, "worse"),
            (SLOWER, SAME, "same"),
            (SLOWER, ratios(1.0, 1.9, 0.8, 1.5, 1.2), "undecided"),
            (SLOWER, [], "undecided"),
            ([], [], "undecided"),
        ],
    )
    def test_what_looks_slower_is_so_only_if_it_is_again(self, pairs, again, verdict):
        (finding,) = found([line(pairs, again)])
        assert finding.verdict == verdict

    def test_the_figures_are_those_that_nothing_has_chosen(self):
        (finding,) = found([line(SLOWER, SAME)])
        assert finding.measured.change == pytest.approx(1.004, abs=1e-3)
        assert finding.measured.low < finding.measured.change < finding.measured.high
        assert (finding.measured.baseline, finding.measured.new) == (100, 100)
        assert finding.notes == ("slower in the first 5 pairs: 1.304×",)

    def test_a_side_that_failed(self):
        findings = found([line(SAME), line(SAME, failure="new: it died")])
        assert [(finding.verdict, finding.notes) for finding in findings] == [
            ("same", ()),
            ("failed", ("new: it died",)),
        ]
        assert exit_code(findings) == 1


class TestMemory:
    @pytest.mark.parametrize(
        ("before", "now", "batch", "verdict"),
        [
            (10_000_000, 10_900_000, 10, "same"),
            (10_000_000, 11_100_000, 10, "worse"),
            (11_100_000, 10_000_000, 10, "better"),
            (1000, 60_000, 10, "same"),  # tiny
            (0, 60_000, 10, "same"),
            (0, 70_000, 10, "worse"),
            (10_000_000, 14_000_000, None, "same"),  # half a kilobyte a step
            (10_000_000, 15_000_000, None, "worse"),
        ],
    )
    def test_by_ratio_and_slack(self, before, now, batch, verdict):
        work = "training" if batch is None else "step"
        (finding,) = found(
            memory=[ComparedMemory(title="maf", work=work, batch=batch, baseline_bytes=before, new_bytes=now)]
        )
        assert finding.verdict == verdict
        would = max(before, 1) * finding.measured.least_found
        assert (now > would) == (verdict == "worse")

    def test_a_side_that_failed(self):
        (finding,) = found(memory=[ComparedMemory(title="maf", work="step", batch=1, failure="new: it died")])
        assert (finding.verdict, finding.notes) == ("failed", ("new: it died",))
