"""The textbook's pass as it is timed: the equations', and the faster of two ways to take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch

from flowbench.engines import TORCH, Engine, choose
from flowbench.timing.passes import EnginePass, FastestPass
from flowbench.transforms import (
    Affine,
    Body,
    GaussianMixture,
    MaskedAutoregressive,
    RationalQuadraticSpline,
    Univariate,
)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", [TORCH, choose(torch.zeros(1))], ids=["torch", "this device's"])
@pytest.mark.parametrize(
    "univariate", [Affine(), RationalQuadraticSpline(4, 3.0), GaussianMixture(2)], ids=lambda map_: type(map_).__name__
)
@pytest.mark.parametrize("residual", [False, True])
def test_a_pass_by_an_engine_is_that_of_the_equations(engine: Engine, univariate: Univariate, residual: bool) -> None:
    torch.manual_seed(0)
    transform = MaskedAutoregressive(5, Body((9, 9, 9), residual=residual), univariate)
    flat = transform.conditioner.flat
    flat.data *= 3 * (flat != 0)
    x, u = (torch.randn(7, 5, requires_grad=True) for _ in range(2))
    seeds = torch.randn(7, 5), torch.randn(7)
    found, expected = (
        [*one_pass(x, u), *torch.autograd.grad(one_pass(x, u), (x, u, flat), seeds)]
        for one_pass in (EnginePass(transform, engine), transform.written_pass())
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("faster", ["engine", "written"])
def test_the_faster_pass_is_taken(faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(work: Callable[[], object]) -> Callable[[int], float]:
        is_engine = isinstance(cast("Any", work).func, EnginePass)
        return lambda runs: 1e-3 if is_engine == (faster == "engine") else 2e-3

    monkeypatch.setattr("flowbench.timing.passes.runner", timed)
    monkeypatch.setattr("flowbench.training.clock.BLOCK_SECONDS", 0.0)
    fastest = FastestPass(TORCH)
    found = fastest.of(MaskedAutoregressive(3, Body((4,)), Affine()), torch.randn(2, 3))
    assert fastest.name == faster
    assert isinstance(found, EnginePass) == (faster == "engine")
