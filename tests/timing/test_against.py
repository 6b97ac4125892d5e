"""``flowbench time --against``: what is told of two sides, and that nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_sides import ANSWERS, fake, interpreter, processes
from typer.testing import CliRunner

from flowbench import flows
from flowbench.cli.app import app
from flowbench.config import PACKAGE
from flowbench.memory import allocated_bytes
from flowbench.results.costs import CostComparison
from flowbench.timing import against, sides
from flowbench.timing.training_memory import training_bytes
from flowbench.timing.worker import Order, Worker
from flowbench.timing.worker_process import finding_its_own
from flowbench.training.step import Descent

QUICK = ["time", "maf", "--dim", "3", "--hidden", "8", "--batch", "10", "--seconds", "0"]

counted = pytest.mark.skipif(allocated_bytes() is None, reason="this C library does not tell what it has lent")


def compared(tmp_path: Path, python: str, *arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, [*QUICK, "--against", python, "--out", str(tmp_path / "out"), *arguments])
    return outcome.exit_code, outcome.output


def record(tmp_path: Path) -> CostComparison:
    (path,) = (tmp_path / "out").glob("*.json")
    return CostComparison.model_validate_json(path.read_text())


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a fake in the place of this flowbench too: no torch has to start. And nobody watches over it, since a watch
    is a thread for each request, and they are thousands.
    """
    monkeypatch.setattr(sides.SideProcess, "patience", None)

    def put(**answers: object) -> str:
        python = fake(tmp_path / "new", **answers)
        new = sides.Side(python, baseline=False)
        monkeypatch.setattr(against, "both", lambda baseline: (sides.Side(baseline, baseline=True), new))
        monkeypatch.setattr(sides, "finding_this", lambda: {})
        return python

    return put


class TestVerdicts:
    def test_two_that_are_the_same(self, tmp_path, other):
        other()
        code, output = compared(tmp_path, fake(tmp_path / "base"))
        assert code == 0, output
        found = record(tmp_path)
        assert {line.work: (len(line.pairs), len(line.again)) for line in found.times} == dict.fromkeys(
            ("density", "sampling", "step"), (7, 0)
        )
        assert [line.work for line in found.memory] == ["training", "density", "sampling", "step"]
        assert "7 same" in output
        assert "both sides are the same code" in output

    def test_what_is_slower_is_run_again_in_processes_of_its_own(self, tmp_path, other):
        new = other(seconds=1.3e-2)
        code, output = compared(tmp_path, fake(tmp_path / "base"), "--format", "json")
        assert code == 1, output
        assert all((len(line.pairs), len(line.again)) == (7, 7) for line in record(tmp_path).times)
        assert len(processes(new)) == 1 + 1 + 7 + 7  # who it is, memory, pairs, and pairs again
        assert '"verdict": "worse"' in output

    def test_what_is_not_slower_again_is_not_called_slower(self, tmp_path, other):
        other(seconds=[1.3e-2] * 9 + [1e-2])
        code, output = compared(tmp_path, fake(tmp_path / "base"))
        assert code == 0, output
        assert "slower in the first 7 pairs: 1.300×" in output

    def test_what_varies_is_looked_at_again_and_stays_undecided(self, tmp_path, other):
        other(seconds=[0, 0, *([0.7e-2, 1.6e-2] * 14)])
        code, output = compared(tmp_path, fake(tmp_path / "base"))
        assert code == 3, output
        assert [len(line.pairs) for line in record(tmp_path).times] == [28, 28, 28]

    def test_the_margin_is_the_users(self, tmp_path, other):
        other(seconds=1.3e-2, peak_bytes=14_000_000)
        code, output = compared(tmp_path, fake(tmp_path / "base"), "--max-slowdown", "1.5", "--max-memory", "1.5")
        assert code == 0, output

    def test_more_memory(self, tmp_path, other):
        other(training_bytes=60_000_000)
        code, output = compared(tmp_path, fake(tmp_path / "base"), "--format", "markdown")
        assert code == 1
        assert "memory of training | **worse** | 50.0 MB | 60.0 MB | 1.200×" in output


class TestSidesThatFail:
    def test_one_that_dies_at_a_work(self, tmp_path, other):
        other(seconds="if request['work'] == 'step': os._exit(3)\nanswer = 1e-2")
        code, output = compared(tmp_path, fake(tmp_path / "base"))
        assert code == 1
        assert "new: its process ended with exit code 3" in output
        assert {line.work: len(line.pairs) for line in record(tmp_path).times} == {
            "density": 7,
            "sampling": 7,
            "step": 0,
        }

    def test_one_that_dies_of_its_memory(self, tmp_path, other):
        other()
        base = fake(tmp_path / "base", training_bytes="os.kill(os.getpid(), 9)")
        code, output = compared(tmp_path, base)
        assert code == 3  # of this side nothing is known to be worse
        assert "baseline: the system killed its process" in output
        assert "1 incomparable" in output

    def test_what_it_cannot_do_any_more_is_no_pass(self, tmp_path, other):
        other(hello=ANSWERS["hello"] | {"works": ["density", "sampling"]})
        code, output = compared(tmp_path, fake(tmp_path / "base"))
        assert code == 1
        assert "it cannot do this any more" in output

    @pytest.mark.parametrize("what", ["hello", "seconds"])
    def test_one_that_does_not_answer(self, tmp_path, other, monkeypatch, what):
        monkeypatch.setattr(sides.SideProcess, "patience", 2.0)
        monkeypatch.setattr(against, "VISITS", 1)  # else each is waited for twice
        able = {"hello": ANSWERS["hello"] | {"works": ["density"]}}
        other(**able)
        code, output = compared(tmp_path, fake(tmp_path / "base", **able | {what: "__import__('time').sleep(60)"}))
        assert code == (2 if what == "hello" else 3)
        assert "did not answer in 2 seconds" in output

    @pytest.mark.parametrize(
        ("hello", "message"),
        [
            (ANSWERS["hello"] | {"protocol": 99}, "too far from this one"),
            (ANSWERS["hello"] | {"refused": "maf has no setting 'depth'"}, "cannot build this maf: maf has no"),
            ("print('a greeting of its own')", "does not answer: its process answered 'a greeting of its own'"),
        ],
    )
    def test_one_that_cannot_be_compared(self, tmp_path, other, hello, message):
        other()
        code, output = compared(tmp_path, fake(tmp_path / "base", hello=hello))
        assert code == 2
        assert message in output.replace("\n", " ")

    @pytest.mark.parametrize(
        ("package", "message"),
        [
            (None, "cannot be started: No such file"),
            ([], "has no flowbench"),
            (["flowbench"], "too old to be compared: it has no flowbench.timing.worker"),
            (["flowbench", "flowbench/timing"], "too old to be compared: it has no flowbench.timing.worker"),
        ],
    )
    def test_one_that_is_not_there(self, tmp_path, other, package, message, monkeypatch):
        other()
        for name in package or []:
            (tmp_path / "base" / name).mkdir(parents=True)
            (tmp_path / "base" / name / "__init__.py").touch()
        python = str(tmp_path / "none")
        if package is not None:
            monkeypatch.setattr("fake_sides.sys.executable", f'{sys.executable}" -S "$@" #')
            python = interpreter(tmp_path / "base", tmp_path / "base")
        code, output = compared(tmp_path, python)
        assert code == 2
        assert message in output.replace("\n", " ")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "python", "--peers"], "leave --peers"),
        (["--against", "python", "--inverse", "passes"], "--inverse out"),
        (["--max-slowdown", "1.2"], "need another flowbench"),
        (["--against", "python", "--format", "xml"], "unknown format"),
    ],
)
def test_what_is_asked_wrongly_is_said(arguments, message):
    outcome = CliRunner().invoke(app, [*QUICK, *arguments])
    assert outcome.exit_code == 2
    assert message in outcome.output


class TestWorker:
    def test_each_side_imports_its_own(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGE.parent), str(tmp_path), ""]))
        assert finding_its_own() == {"PYTHONPATH": str(tmp_path)}

    def test_a_real_comparison_with_itself(self, tmp_path, monkeypatch):
        monkeypatch.setattr(against, "LOOKS", (1,))
        python = interpreter(tmp_path, PACKAGE.parent)
        code, output = compared(tmp_path, python)
        assert code == 3, output  # one pair tells nothing
        found = record(tmp_path)
        assert found.baseline.environment == found.new.environment
        assert found.baseline.package == found.new.package == str(PACKAGE)
        assert [len(line.pairs) for line in found.times] == [1, 1, 1]
        assert all(line.baseline_bytes for line in found.memory)
        assert all(line.baseline_bytes == line.new_bytes for line in found.memory if line.work != "training")

    def test_a_setting_that_it_must_know_and_a_default_that_it_need_not(self):
        def hello(settings, defaults):
            order = Order("maf", settings, defaults, (2, 3), "cpu", 1)
            return Worker(order, np.zeros((2, 3), dtype=np.float32)).hello()

        assert hello({"hidden": [4]}, {"transforms": 2, "of_later": 5})["works"] == ["density", "sampling", "step"]
        refused = hello({"of_later": 5}, {})
        assert refused["works"] == []
        assert "maf has no setting 'of_later'" in refused["refused"]

    def test_gaussians_have_nothing_to_train(self):
        order = Order("gaussian", {}, {}, (9, 3), "cpu", 1)
        worker = Worker(order, np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
        assert worker.hello()["works"] == ["density", "sampling"]
        assert worker.training_bytes() is None


@counted
class TestTrainingMemory:
    def measured(self) -> int:
        torch.manual_seed(0)
        flow = flows.build("maf", 43, flows.load("maf").Options(hidden=(32,), transforms=2))
        return training_bytes(flow, torch.randn(500, 43)) or 0

    def test_it_is_the_same_each_time_and_not_much(self):
        first, second = self.measured(), self.measured()
        assert first == pytest.approx(second, abs=1_500_000)  # 200 bytes a step
        assert 100_000 < first < 3_000_000

    def test_a_step_that_keeps_its_batch_shows(self, monkeypatch):
        honest, kept, step = self.measured(), [], Descent.step
        monkeypatch.setattr(Descent, "step", lambda own, rows, rate: kept.append(rows) or step(own, rows, rate))
        assert self.measured() - honest == pytest.approx(8000 * 200 * 43 * 4, rel=0.02)  # and no more than that

    def test_a_batch_that_is_kept_until_the_epochs_end_shows_too(self, monkeypatch):
        honest, kept, step = self.measured(), [], Descent.step

        def keeping(own, rows, rate):
            if len(kept) == 20 or (kept and kept[-1][0] is not own):
                kept.clear()
            kept.append((own, rows.clone()))
            return step(own, rows, rate)

        monkeypatch.setattr(Descent, "step", keeping)
        assert self.measured() - honest > 7000 * 200 * 43 * 4


def test_an_interrupt_ends_all_processes(tmp_path):
    base = fake(tmp_path / "base", training_bytes="import time; time.sleep(600)")
    command = [sys.executable, "-m", "flowbench", *QUICK, "--against", base, "--out", str(tmp_path / "out")]
    said = tmp_path / "stderr"
    with said.open("wb") as stderr:
        child = subprocess.Popen(command, stderr=stderr, env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)})
    until = time.monotonic() + 60
    while len(processes(base)) < 2 and time.monotonic() < until:  # who it is, and memory
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    assert said.read_text().strip().endswith("interrupted")
    assert len(processes(base)) == 2
    for pid in processes(base):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
