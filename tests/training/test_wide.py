"""Flows of so many columns that their Jacobians are looked at in part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from flow_cases import shaken
from torch import Tensor

from flowbench import flows
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.training import checks as closing
from flowbench.training import wide
from flowbench.training.checks import checks
from flowbench.transforms import LULinear, MaskedAutoregressive, Pair

DIM = 12


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "WIDE", 10)
    monkeypatch.setattr(closing, "WIDE", 10)
    monkeypatch.setattr(wide, "LOOKED_AT", 8)


def outcome(flow: Flow, x: Tensor) -> dict[str, bool]:
    return {name: check.passed for name, check in checks(flow, x, log_likelihoods(flow, x)).items()}


def test_columns_are_drawn_once_and_with_both_ends() -> None:
    found = wide.columns_of(DIM).tolist()
    assert found == sorted(set(found))
    assert (len(found), found[0], found[-1]) == (8, 0, DIM - 1)
    assert wide.columns_of(10).tolist() == list(range(10))


@pytest.mark.parametrize("name", flows.names())
def test_a_sound_flow_passes_all_checks(name: str) -> None:
    flow = shaken(name, DIM).float()
    found = outcome(flow, torch.randn(50, DIM))
    assert all(found.values())
    mixes_all = any(isinstance(leaf, LULinear) for part in flow.parts for leaf, _ in part.transform.leaves())
    assert ("log_det" in found) == ("roundtrip" in found and not mixes_all)


@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp"])
def test_it_is_the_whole_jacobians(name: str) -> None:
    flow, x = shaken(name, DIM), torch.randn(2, DIM).double()
    assert wide.log_det_error(flow.double(), x) == pytest.approx(0, abs=1e-9)
    assert closing._log_det_error(flow.double(), x) == pytest.approx(0, abs=1e-9)


class Wrong(MaskedAutoregressive):
    """A masked transform whose log-determinant lacks a column, or whose columns see what they must not."""

    fault = ""

    def by_column(self, x: Tensor, context: Tensor | None = None) -> Pair:
        u, slopes = super().by_column(x, context)
        if self.fault == "slope":
            slopes = 1.01 * slopes + 0.01
        if self.fault == "order":
            u = u + 0.01 * x.roll(-1, 1)
        return u, slopes

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        u, slopes = self.by_column(x, context)
        return u, slopes[:, 1:].sum(-1) if self.fault == "sum" else slopes.sum(-1)


@pytest.mark.parametrize(
    ("name", "fault"), [("maf", "slope"), ("maf", "order"), ("maf", "sum"), ("iaf", "slope"), ("iaf", "order")]
)
def test_a_planted_error_is_found(name: str, fault: str) -> None:
    flow = shaken(name, DIM).double()
    for leaf, _ in flow.transform.leaves():
        if isinstance(leaf, MaskedAutoregressive):
            leaf.__class__, leaf.fault = Wrong, fault
            break
    found = wide.log_det_error(flow, torch.randn(2, DIM).double())
    assert found is not None
    assert found > 1e-4


@pytest.mark.parametrize("name", ["maf", "nsf-ar", "gaussian"])
def test_what_it_takes_is_foreseen_by_a_few_columns(name: str) -> None:
    done: list[object] = []

    def seconds_of(work: Callable[[], object]) -> float:
        done.append(work())
        return 1.0

    seconds = closing.checks_seconds(shaken(name, DIM).float(), torch.randn(5, DIM), seconds_of)
    assert len(done) == 2
    assert seconds >= 1 + 8 / 4
