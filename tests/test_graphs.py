"""Steps replayed as CUDA graphs: each call does its work once, and where there is a GPU, the same work."""

from __future__ import annotations

import copy

import pytest
import torch
from flow_cases import shaken
from torch import Tensor

from flowbench import graphs
from flowbench.config import TrainingOptions
from flowbench.graphs import Replayed
from flowbench.optimizer import Descent

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recorder:
    """Stands for torch.cuda: work that is recorded does not happen until it is replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded = 0
        monkeypatch.setattr(Replayed, "_aside", lambda replayed, rows: replayed._work(rows))
        monkeypatch.setattr(Replayed, "_captured", lambda replayed, rows: self.capture(replayed._work))

    def capture(self, work: graphs.Work) -> graphs.Work:
        self.recorded += 1
        return work


def test_every_call_does_its_work_once_and_each_shape_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, done = Recorder(monkeypatch), []

    def work(rows: Tensor) -> Tensor:
        done.append(len(rows))
        return rows.sum()

    replayed = Replayed(work)
    sizes = [3, 3, 4, 3, 4, 3, 4, 4, 3]
    assert [float(replayed(torch.ones(n))) for n in sizes] == sizes
    assert done == sizes
    assert recorder.recorded == 2


@NEEDS_CUDA
@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp"])
@pytest.mark.parametrize("optimizer", ["adam", "adam-inner-epsilon"])
def test_captured_steps_are_the_steps(name: str, optimizer: str) -> None:
    options = TrainingOptions.model_validate({"optimizer": optimizer})
    flow = shaken(name, 6).cuda().train()
    other = copy.deepcopy(flow)
    captured, plain = Descent(flow, options), Descent(other, options)
    plain._run = plain._step
    generator = torch.Generator().manual_seed(0)
    for step, size in enumerate([40, 40, 40, 41, 40, 41, 41, 41, 40]):
        rows = torch.randn(size, 6, generator=generator).cuda()
        losses = [float(descent.step(rows, 1e-3 * (step + 1))) for descent in (captured, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert captured._run._graphs.keys() == {(40, 6), (41, 6)}  # type: ignore[union-attr]
    for found, expected in zip(flow.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@NEEDS_CUDA
def test_what_cannot_be_captured_is_run_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    replayed = Replayed(lambda rows: rows * float(rows.sum()))  # it waits for the device
    for _ in range(5):
        assert float(replayed(torch.ones(2, device="cuda")).sum()) == 4
    assert "no CUDA graph" in capsys.readouterr().err
