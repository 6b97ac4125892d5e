"""How many rows are evaluated at a time: what a row takes is foreseen, and the figures do not depend on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowbench import flows, memory
from flowbench.flows.core.batches import bytes_of_a_row, rows_at_once
from flowbench.flows.core.density import Density, log_likelihoods
from flowbench.flows.core.registry import own_names
from flowbench.timing.yardsticks import peak_bytes

DIM = 48


def built(name: str) -> flows.Flow:
    torch.manual_seed(0)
    kind = flows.load(name).Options
    sizes = {"hidden": [64, 64]} if "hidden" in kind.model_fields else {}
    return flows.build(name, DIM, kind(**sizes)).eval()


@pytest.mark.parametrize("name", own_names())
@pytest.mark.parametrize("work", ["density", "sampling"])
@torch.no_grad()
def test_no_row_takes_more_than_is_foreseen(name: str, work: str) -> None:
    flow = built(name)
    few, many = torch.randn(200, DIM), torch.randn(1200, DIM)
    run = flow if work == "density" else lambda x: flow.sample(len(x))
    taken = [peak_bytes(lambda x=x: run(x), "cpu") for x in (few, many)]
    assert (taken[1] - taken[0]) / 1000 <= bytes_of_a_row(flow)


def test_little_memory_makes_small_batches_and_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = built("maf-mog")
    rows = torch.randn(100, DIM)
    whole = log_likelihoods(flow, rows)
    drawn = np.concatenate(list(Density(flow).samples(100, torch.Generator().manual_seed(0))))
    assert rows_at_once(flow) > 100
    monkeypatch.setattr(memory, "available_bytes", lambda: 4 * 7 * bytes_of_a_row(flow))
    assert rows_at_once(flow) == 7
    np.testing.assert_allclose(log_likelihoods(flow, rows), whole, rtol=1e-5, atol=1e-4)
    again = np.concatenate(list(Density(flow).samples(100, torch.Generator().manual_seed(0))))
    np.testing.assert_allclose(again, drawn, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    assert rows_at_once(flow) == 1
    with monkeypatch.context() as patch:  # a row that comes alone is not held up
        patch.setattr(memory, "available_bytes", lambda: pytest.fail("it is asked"))
        np.testing.assert_allclose(log_likelihoods(flow, rows[:1]), whole[:1], rtol=1e-5, atol=1e-4)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert rows_at_once(flow) == 5000
