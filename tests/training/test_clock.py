"""Times: real ones, of the shape that a row wants."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from flow_cases import shaken
from torch import Tensor

from flowbench.flows import Flow
from flowbench.training import clock as timing
from flowbench.transforms import Pair, Transform


class Slow(Transform):
    """Takes 2 ms forward and 6 ms back, and 50 ms more the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def wait(self, x: Tensor, seconds: float) -> Pair:
        time.sleep(seconds + (0.05 if self.calls in (0, 1) else 0))
        self.calls += 1
        return x, x.new_zeros(len(x))

    def forward(self, x: Tensor) -> Pair:
        return self.wait(x, 0.002)

    def inverse(self, u: Tensor) -> Pair:
        return self.wait(u, 0.006)


def test_the_median_is_a_warm_calls_and_the_first_stands_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.02)
    monkeypatch.setattr(timing, "ROUNDS", 20)
    monkeypatch.setattr(timing, "BLOCK_SECONDS", 0.0)
    (found,) = timing.time_flow(Flow(2, Slow()), torch.zeros(3, 2), (10,))
    assert found.batch == 10
    assert found.runs == 20
    assert 200 < found.density_us_per_row < 400
    assert 600 < found.sampling_us_per_row < 900
    assert found.first_density_us_per_row > 5000
    assert found.first_sampling_us_per_row > 5000
    assert found.density_us_per_row_q1 <= found.density_us_per_row <= found.density_us_per_row_q3


def test_few_rows_are_repeated_to_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    seen: list[int] = []
    flow = shaken("maf", 3).float()
    flow.register_forward_pre_hook(lambda module, rows: seen.append(len(rows[0])))
    assert [t.batch for t in timing.time_flow(flow, torch.randn(7, 3), (5, 100))] == [5, 100]
    assert set(seen) == {5, 100}


def test_works_are_run_in_turns_each_as_long_as_it_needs() -> None:
    ran: list[str] = []

    def runner(name: str, seconds: float) -> timing.Runner:
        def run(runs: int) -> float:
            ran.append(name)
            return seconds

        return run

    found = timing.measure({"quick": runner("quick", 1e-3), "slow": runner("slow", 0.1)}, seconds=0.5)
    rounds = ran[4:]
    assert rounds[:6] == ["quick", "slow"] * 3
    assert found["slow"].runs == 10  # not five: a median wants ten
    assert found["quick"].runs * 1e-3 * 10 >= 0.5  # ten at once
    assert found["quick"].quartiles(1e3) == pytest.approx((1.0, 1.0, 1.0))


def test_what_takes_very_long_is_run_once() -> None:
    calls: list[int] = []
    found = timing.measure({"very": lambda runs: calls.append(runs) or 7.0}, seconds=0.1)  # type: ignore[func-returns-value]
    assert calls == [1, 1]  # the first, which compiles, and one warm
    assert found["very"].runs == 1
    assert found["very"].quartiles(1.0) == (7.0, 7.0, 7.0)


def test_what_is_foreseen_is_timed_as_it_will_be() -> None:
    flow, graphs = shaken("realnvp", 3).float(), []

    def seconds_of(work: Callable[[], object]) -> float:
        graphs.append(torch.is_grad_enabled())
        return 0.0

    assert timing.time_flow_seconds(flow, torch.randn(5, 3), seconds_of, (10,)) > 0
    assert graphs == [False, False]
