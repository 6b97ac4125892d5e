"""Steps replayed as CUDA graphs: each call does its work once, and where there is a GPU, the same work."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from flow_cases import shaken
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines.graphs import Replayed
from flowbench.training.step import Descent

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class FakeGraph:
    """What was recorded, to be done at each replay."""

    def __init__(self) -> None:
        self.actions: list[Callable[[], object]] = []

    def replay(self) -> None:
        for action in self.actions:
            action()


class FakeCuda:
    """Stands for torch.cuda: what is recorded does not happen until it is replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.recording: FakeGraph | None = None
        self.recorded, self.fails, self.stream = 0, fails, "the caller's"
        stream = SimpleNamespace(wait_stream=lambda other: None)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
        monkeypatch.setattr(torch.cuda, "set_stream", self.set_stream)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)

    @contextmanager
    def graph(self, graph: FakeGraph, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        self.recording, self.stream = graph, "the capture's"
        yield
        self.recording = None
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded, self.stream = self.recorded + 1, "the caller's"

    def set_stream(self, stream: object) -> None:
        self.stream = "the caller's"


class Total:
    """Work with a memory of its own: the sum of all rows so far."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.total = cuda, torch.zeros(())

    def __call__(self, rows: Tensor) -> Tensor:
        out = torch.zeros(())

        def act() -> None:
            self.total += rows.sum()
            out.copy_(self.total)

        if self.cuda.recording:
            self.cuda.recording.actions.append(act)
        else:
            act()
        return out


SIZES = [3, 3, 4, 3, 4, 3, 4, 4, 3]


def totals(replayed: Replayed, work: Total) -> list[Tensor]:
    return [replayed(work, torch.full((n,), float(i + 1))) for i, n in enumerate(SIZES)]


EXPECTED = [float(x) for x in torch.tensor([(i + 1) * n for i, n in enumerate(SIZES)]).cumsum(0)]


def test_every_call_does_its_work_once_and_each_shape_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    found = totals(Replayed(), Total(cuda))
    assert [float(x) for x in found] == EXPECTED
    assert cuda.recorded == 2


def test_what_fails_to_be_captured_is_run_as_it_is_on_the_callers_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda = FakeCuda(monkeypatch, fails=True)
    assert [float(x) for x in totals(Replayed(), Total(cuda))] == EXPECTED
    assert cuda.stream == "the caller's"
    assert capsys.readouterr().err.count("no CUDA graph") == 2


def test_a_descent_goes_with_its_last_name() -> None:
    descent = Descent(shaken("maf", 3), TrainingOptions.model_validate({}))
    gone = weakref.ref(descent)
    gc.disable()
    try:
        del descent
        assert gone() is None
    finally:
        gc.enable()


@NEEDS_CUDA
@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp"])
@pytest.mark.parametrize("optimizer", ["adam", "adam-inner-epsilon"])
def test_captured_steps_are_the_steps(name: str, optimizer: str) -> None:
    options = TrainingOptions.model_validate({"optimizer": optimizer})
    flow = shaken(name, 6).cuda().train()
    other = copy.deepcopy(flow)
    captured, plain = Descent(flow, options), Descent(other, options)
    plain._launch = lambda work, rows: work(rows)
    generator = torch.Generator().manual_seed(0)
    for step, size in enumerate([40, 40, 40, 41, 40, 41, 41, 41, 40]):
        rows = torch.randn(size, 6, generator=generator).cuda()
        losses = [float(descent.step(rows, 1e-3 * (step + 1))) for descent in (captured, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert isinstance(captured._launch, Replayed)
    assert captured._launch._replays.keys() == {(40, 6), (41, 6)}
    assert all(captured._launch._replays.values())
    for found, expected in zip(flow.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@NEEDS_CUDA
def test_what_cannot_be_captured_is_run_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    here = torch.cuda.current_stream()
    replayed = Replayed()
    for _ in range(5):
        twice = replayed(lambda rows: rows * float(rows.sum()), torch.ones(2, device="cuda"))  # it waits for the device
        assert float(twice.sum()) == 4
    assert torch.cuda.current_stream() == here
    assert "no CUDA graph" in capsys.readouterr().err
