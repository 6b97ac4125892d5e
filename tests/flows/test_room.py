"""What is built is built within its room."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch

from flowbench import flows
from flowbench.flows.core.room import NoRoomError, Room
from flowbench.training.weights import BYTES, EACH


@pytest.mark.parametrize("name", flows.names())
@pytest.mark.parametrize("dim", [1, 30])
def test_a_flow_is_built_well_within_what_its_state_grants(name: str, dim: int) -> None:
    module = flows.load(name)
    state = module.build(dim, module.Options()).state_dict()
    held = sum(tensor.nbytes for tensor in state.values())
    # half of it is left: what else a flow may come to do, and packed weights of format 1
    with Room(BYTES[0] / 2 * held + BYTES[1], operations=(EACH[0] * len(state) + EACH[1]) / 2):
        module.build(dim, module.Options())


@pytest.mark.parametrize(
    ("name", "dim", "options"),
    [
        ("maf", 3, {"transforms": 10**9}),
        ("maf", 3, {"hidden": [1] * 100_000}),
        ("maf", 3, {"hidden": [30_000, 30_000]}),
        ("maf", 10**9, {}),
        ("maf", 20_000, {"between": "lu"}),
        ("realnvp", 3, {"hidden": [10**9]}),
        ("nsf-ar", 10**5, {"bins": 500}),
        ("made-mog", 3, {"components": 10**9}),
        ("made-mog", 3, {"orders": 10**9}),
        ("gaussian", 30_000, {}),
        ("gmm", 3, {"components": 10**9}),
        ("kde", 3, {"kernels": 10**10}),
    ],
)
def test_a_flow_without_room_is_refused_before_it_takes_memory(name: str, dim: int, options: dict[str, Any]) -> None:
    module = flows.load(name)
    chosen = module.Options(**options)
    with pytest.raises(NoRoomError), Room(100):  # what the first rehearsal of a process imports takes memory, too
        torch.ones(9) * torch.ones(9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NoRoomError), Room(1 << 24, operations=2000):
        module.build(dim, chosen)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.eye(1000),
        lambda: torch.ones(1000, 1) * torch.ones(1000),
        lambda: torch.ones(1000).repeat(1000),
        lambda: torch.ones(1, 1000).expand(1000, 1000).clone(),
        lambda: torch.ones(3).new_zeros(1000, 1000),
        lambda: torch.outer(torch.ones(1000), torch.ones(1000)),
    ],
)
def test_what_an_operation_makes_is_foreseen(made: Any) -> None:
    with Room(1 << 23):
        assert made().numel() == 10**6
    with pytest.raises(NoRoomError, match=r"more than 3\.0 MB"), Room(3_000_000):
        made()


def test_what_is_drawn_is_counted_by_itself() -> None:
    with Room(1 << 30, drawn=4000):
        torch.zeros(10_000)
        torch.randn(1000)
        with pytest.raises(NoRoomError):
            torch.empty(100).normal_()
