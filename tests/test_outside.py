"""A flow, a univariate map, an activation and a dataset from outside: they train, sample and keep the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch

from flowbench import flows, plugins
from flowbench.engines import TORCH
from flowbench.engines.numba.engine import NumbaEngine
from flowbench.training.loop import train

FLOW = '''
"""Monotone cubics with softplus units."""

import torch

from flowbench.config import FlowOptions, Widths
from flowbench.flows import Flow
from flowbench.transforms import Activation, BatchNorm, Body, Chain, MaskedAutoregressive, Permutation, Univariate


class Options(FlowOptions):
    transforms: int = 2
    hidden: Widths = (16, 16)


class Cubic(Univariate):
    """u = a y³ + b y of y = x − μ, with a, b > 0; inverted in closed form (Cardano)."""

    parameters = 3

    def forward(self, x, theta):
        shift, a, b = theta[0], theta[1].tanh().exp() / 10, theta[2].tanh().exp()
        y = x - shift
        return a * y**3 + b * y, (3 * a * y**2 + b).log()

    def inverse(self, u, theta):
        shift, a, b = theta[0], theta[1].tanh().exp() / 10, theta[2].tanh().exp()
        p, half = b / (3 * a), u / (2 * a)
        root = (half**2 + p**3).sqrt()
        far = torch.where(half >= 0, half + root, half - root)
        first = far.abs().pow(1 / 3) * far.sign()
        y = first - p / first
        return y + shift, -(3 * a * y**2 + b).log()


def build(dim, options):
    steps = []
    for _ in range(options.transforms):
        softplus = Activation("softplus", torch.nn.functional.softplus)
        steps += [MaskedAutoregressive(dim, Body(options.hidden, softplus), Cubic()), BatchNorm(dim)]
        steps += [Permutation.reverse(dim)]
    return Flow(dim, Chain(steps))
'''

DATASET = '''
"""A ring."""

import numpy as np

from flowbench.data import Card, Splits

CARD = Card(
    name="my_ring", version=1, title="a ring", source_url="here", licence="MIT", citation="",
    dim=2, n_train=2000, n_validation=200, n_test=200, space="raw",
)


def prepare(raw, rng):
    angle = rng.uniform(0, 2 * np.pi, 2400)
    rows = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.2 * rng.normal(size=(2400, 2))
    return Splits(*np.split(rows, [2000, 2200]))
'''


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins, "_given", {})  # files that are given are known to a command, and so to all that follow
    path = tmp_path / "my_flow.py"
    path.write_text(FLOW)
    return path


def flowbench(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.flowbench(*words, cwd=cwd, XDG_CACHE_HOME=str(cwd / "cache"), **environment)


@pytest.mark.parametrize("engine", [TORCH, NumbaEngine(), None], ids=["eager", "numba", "chosen"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_flow_of_new_parts_trains_through_every_engine_and_samples_by_substitution(
    engine: object, batch_norm: bool, flow: Path
) -> None:
    torch.manual_seed(0)
    module = flows.load(plugins.name_of("flows", str(flow)))
    built = module.build(2, module.Options())
    built.engine = engine  # type: ignore[assignment]
    rows = torch.randn(500, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    from flowbench.config import TrainingOptions

    options = TrainingOptions.model_validate({"max_epochs": 6, "batch_size": 50, "warmup_steps": 10})
    epochs = list(train(built, rows[:400], rows[400:], options, seed=0))
    assert epochs[-1].validation_ll_nats > epochs[0].validation_ll_nats
    draws = built.sample(2000).detach()
    torch.testing.assert_close(draws.T.cov(), rows.T.cov(), rtol=0.25, atol=0.15)
    assert (built.to_noise(draws[:50])[0] - built.transform(draws[:50])[0]).abs().max() < 1e-3


def test_a_flow_and_a_dataset_in_files_are_trained_checked_and_used(tmp_path: Path, flow: Path) -> None:
    ring = tmp_path / "my_ring.py"
    ring.write_text(DATASET)
    checked = flowbench("check", flow, "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert all(finding["passed"] for finding in json.loads(checked.stdout)["properties"])
    small = "--max-epochs", "2", "--out", "runs"
    done = flowbench("train", "./my_flow.py", "--data", "./my_ring.py", "--json", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["task"]["flow"], record["task"]["data"], record["status"]) == ("my_flow", "my_ring", "ok")
    again = flowbench("train", "./my_flow.py", "--data", "./my_ring.py", *small, cwd=tmp_path)
    assert "already finished" in again.stderr
    flow.write_text(FLOW.replace("/ 10", "/ 11"))  # other code is another flow
    assert "already finished" not in flowbench("train", flow, "--data", ring, *small, cwd=tmp_path).stderr

    folder = tmp_path / "plugins"
    for kind, file in (("flows", flow), ("datasets", ring)):
        (folder / kind).mkdir(parents=True)
        (folder / kind / file.name).write_text(file.read_text())
    known = {"FLOWBENCH_PLUGINS": str(folder), "FLOWBENCH_RESULTS_DIR": "runs"}
    drawn = flowbench("sample", record["run"], "-n", "5", cwd=tmp_path, **known)
    assert drawn.returncode == 0, drawn.stderr
    assert len(drawn.stdout.splitlines()) == 6


def test_a_flow_that_breaks_the_contract_is_told_which_part(tmp_path: Path, flow: Path) -> None:
    flow.write_text(FLOW.replace("(3 * a * y**2 + b).log()", "-(3 * a * y**2 + b).log()"))
    command = [sys.executable, "-m", "flowbench", "check", str(flow)]  # begun from nothing: it imports what it needs
    broken = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert broken.returncode == 1
    assert "fails  log_det, 2 columns" in broken.stdout
    assert "holds  roundtrip, 2 columns" in broken.stdout


def test_a_checkpoint_of_a_flow_that_is_not_known_here_says_so(tmp_path: Path, flow: Path) -> None:
    options = "--data", "truth-banana", "--max-epochs", "1", "--out", "runs", "--json"
    record = json.loads(flowbench("train", flow, *options, cwd=tmp_path).stdout)
    lost = flowbench("sample", record["run"], cwd=tmp_path, FLOWBENCH_RESULTS_DIR="runs")
    assert lost.returncode == 4
    assert "my_flow" in lost.stderr
    assert "FLOWBENCH_PLUGINS" in lost.stderr


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (FLOW.replace("import torch\n", "import torch, nosuch\n", 1), "my_flow.py was imported"),
        (FLOW.replace("    return Flow(dim", "    Flow(dim"), "build returned NoneType"),
        (FLOW.replace("class Options(FlowOptions)", "class Options"), "Options is no flowbench.config.FlowOptions"),
        ("Options = 1", "does not define build"),
    ],
)
def test_what_is_wrong_with_a_file_from_outside_is_said_and_is_no_defect_of_flowbench(
    spoilt: str, said: str, tmp_path: Path, flow: Path
) -> None:
    flow.write_text(spoilt)
    broken = flowbench("check", flow, cwd=tmp_path)
    assert broken.returncode in (1, 2)
    assert said in broken.stderr
    assert "defect of flowbench" not in broken.stderr
