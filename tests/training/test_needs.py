"""What a training will take of memory: foreseen, and refused where there is less."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flowbench import flows, memory
from flowbench.cli.app import app
from flowbench.config import TrainingOptions
from flowbench.errors import ShortOfMemoryError, shortage
from flowbench.flows import Flow
from flowbench.memory import peak_bytes
from flowbench.training import loop, needs, step
from flowbench.training.objective import MaximumLikelihood

SMALL = ["--data", "truth-gaussian", "--set", "transforms=1", "--max-epochs", "1"]


def invoke(*arguments: str, out: Path) -> tuple[int, str]:
    """Here, where what is planted is seen: the exit code, and all that is said."""
    outcome = CliRunner().invoke(app, ["train", *arguments, "--out", str(out)])
    return outcome.exit_code, outcome.output


def built(name: str, dim: int, given: int = 0, **options: object) -> Flow:
    torch.manual_seed(0)
    return flows.build(name, dim, flows.load(name).Options(**options), (0,) * given)


@pytest.mark.parametrize(
    ("name", "dim", "hidden", "batch"),
    [
        ("maf", 43, (512, 512), 500),
        ("maf", 8, (64,), 20_000),
        ("nsf-ar", 8, (64, 64), 4000),
        ("realnvp", 8, (64, 64), 20_000),
    ],
)
def test_what_is_foreseen_is_what_the_system_lends(name: str, dim: int, hidden: tuple[int, ...], batch: int) -> None:
    rows = torch.randn(2 * batch, dim)
    options = TrainingOptions(batch_size=batch, max_epochs=1)

    def work() -> None:
        flow = built(name, dim, hidden=hidden, transforms=2)
        fit = loop.Fit(MaximumLikelihood(flow), rows, rows[:100], options, 0)
        fit.save_to(lambda state: None)
        fit.run()

    work()
    lent = peak_bytes(work)
    if lent is None:
        pytest.skip("the system does not tell what it lends")
    # the checkpoint, which is not put together here, is up to half of what a small batch takes
    found = needs.needs(built(name, dim, hidden=hidden, transforms=2), batch).total
    assert lent / 2 < found < 3 * lent


@pytest.mark.parametrize("name", ["maf", "nsf-c"])
def test_what_a_flow_is_given_is_foreseen_with_its_gradients(name: str) -> None:
    flow, rows = built(name, 6, given=300, hidden=(32,), transforms=2), torch.randn(10_000, 306)
    flow.backpropagate(rows)
    lent = peak_bytes(lambda: flow.backpropagate(rows))
    if lent is None:
        pytest.skip("the system does not tell what it lends")
    assert 0.75 * lent < needs.batch_bytes(flow, len(rows)) < 1.5 * lent


def test_what_cannot_fit_is_refused_before_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 50_000_000)
    monkeypatch.setattr(step.Descent, "step", lambda *_: pytest.fail("a step was taken"))
    code, said = invoke("maf", *SMALL, "--set", "hidden=64", "--set", "batch_size=90000", out=tmp_path)
    assert code == ShortOfMemoryError.exit_code == 4
    assert re.search(r"training needs about [\d.]+ MB of memory, and 50.0 MB are available", said)
    assert re.search(r"for a batch of \S+ rows", said)
    assert re.search(r"hint: --set batch_size=\d+ fits", said)
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert record["status"] == "failed"
    assert "training needs about" in record["error"]
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("setting", ["hidden=30000,30000", "transforms=1000000000", "hidden=1000000000"])
def test_a_flow_that_cannot_fit_is_refused_before_it_is_built(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    monkeypatch.setattr(needs, "OPERATIONS", 10_000)

    def refused() -> None:
        code, said = invoke("maf", *SMALL, "--set", setting, out=tmp_path)
        assert code == 4
        assert "the flow is too large" in said

    peak = peak_bytes(refused)
    assert peak is None or peak < 10**8


def test_parameters_that_cannot_fit_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 700_000)
    code, said = invoke("maf", *SMALL, out=tmp_path)
    assert code == 4
    assert "no batch fits" in said


@pytest.mark.parametrize("name", ["maf", "nsf-c"])
def test_the_batch_that_is_hinted_at_is_the_largest_that_fits(name: str) -> None:
    flow = built(name, 5, hidden=(30,))
    left = needs.batch_bytes(flow, 3000)
    hint = needs._what_fits(flow, 10_000, left)
    (fits,) = map(int, re.findall(r"batch_size=(\d+)", hint))
    assert needs.batch_bytes(flow, fits) <= left < needs.batch_bytes(flow, fits + 1)
    assert fits >= 3000


def test_what_nobody_tells_the_memory_of_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    code, said = invoke("gaussian", "--data", "truth-gaussian", out=tmp_path)
    assert code == 0, said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_is_refused_ends_a_run_in_words(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(step.Descent, "step", refused)
    code, said = invoke("maf", *SMALL, "--set", "hidden=8", out=tmp_path)
    assert code == 4
    assert "there is not enough memory" in said
    assert "defect" not in said
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert record["error"].startswith("there is not enough memory")


def test_other_errors_are_no_shortage() -> None:
    assert shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert isinstance(shortage(MemoryError()), ShortOfMemoryError)
