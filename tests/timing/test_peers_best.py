"""Peers at their best: fused Adam and, where there is a compiler, compiled directions of one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowbench.timing import benchmark, peers
from flowbench.timing.benchmark import Plan, choose

ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(Path("no") / "compiler"))


@pytest.mark.usefixtures("quick", "no_compiler")
def test_they_stand_beside_themselves_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has a best of its own, and one that has none; each is a process that imports its library."""
    monkeypatch.setattr(peers, "NAMES", ("zuko", "flowjax"))
    if reason := peers.obstacle("zuko", peers.Model("maf", 4, (8,), 2), "cpu"):
        pytest.skip(reason)
    chosen = choose(["maf"], None, ["hidden=8", "transforms=2"], as_peers=True)
    plan = Plan((6,), 0.0, peers=True, peers_best=True)
    *_, record = benchmark.time_flows(chosen, ROWS, "d4", plan)
    steps = {cost.model for cost in record.shapes[0].costs if cost.work == "step"}
    assert {"maf", "zuko", "zuko, fused"} <= steps
    assert not any(model.startswith("flowjax,") for model in steps)


@pytest.mark.parametrize(
    ("flow", "directions"), [("maf", ["density"]), ("iaf", ["sampling"]), ("realnvp", ["density", "sampling"])]
)
def test_what_is_compiled_is_the_directions_of_one_pass(
    flow: str, directions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := peers.obstacle("zuko", peers.Model(flow, 4, (8,), 2), "cpu"):
        pytest.skip(reason)
    compiled = []

    def compiling(function, dynamic):  # type: ignore[no-untyped-def]
        def run(*given):  # type: ignore[no-untyped-def]
            compiled.append(function)
            return function(*given)

        return run

    monkeypatch.setattr(peers, "_compiles", lambda device: True)
    monkeypatch.setattr(torch, "compile", compiling)
    works = peers.zuko(peers.Model(flow, 4, (8,), 2, best=True), ROWS.numpy(), "cpu")
    for work in ("density", "sampling"):
        before = len(compiled)
        getattr(works, work)()
        assert (len(compiled) > before) == (work in directions)
