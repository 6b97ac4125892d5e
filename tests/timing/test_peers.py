"""Peers: what each does, that none takes another's figures along when it dies, and that what cannot fit is skipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flowbench import memory
from flowbench.cli.app import app
from flowbench.results import costs
from flowbench.timing import peer_process, peers
from flowbench.timing.peer_process import PeerProcess
from flowbench.timing.peer_worker import Order
from flowbench.timing.worker_process import running
from flowbench.training.clock import WorkError

pytestmark = pytest.mark.usefixtures("quick")

linux = pytest.mark.skipif(sys.platform != "linux", reason="no other system tells a process's peak")
SMALL = {flow: peers.Model(flow, 4, (8, 8), 2) for flow in ("maf", "iaf", "nsf-ar", "realnvp")}
WIDE = peers.Model("iaf", 80, (8,), 2)
GIGABYTE = 10**9


def started(adapter: str, model: peers.Model, stack: ExitStack) -> PeerProcess:
    rows = np.random.default_rng(0).normal(size=(6, model.dim)).astype(np.float32)
    order = Order(adapter, model, (6, model.dim), "cpu")
    return stack.enter_context(running(PeerProcess(adapter, order, rows, 1)))


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """What ends the processes; they find ``fake_peers``."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
    with ExitStack() as it:
        yield it


def fakes(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let ``--peers`` take these fakes in place of the libraries."""
    monkeypatch.setattr(peers, "NAMES", names)
    monkeypatch.setattr(peers, "obstacle", lambda peer, model, device: None)
    monkeypatch.setattr(peers, "__name__", "fake_peers")


def timed(tmp_path: Path, *arguments: str) -> tuple[costs.TimeRecord, str]:
    quick = ["--seconds", "0", "--threads", "1", "--out", str(tmp_path)]
    outcome = CliRunner().invoke(app, ["time", "maf", "--hidden", "4", "--peers", *arguments, *quick])
    assert outcome.exit_code == 0, outcome.output
    (path,) = tmp_path.glob("time-*.json")
    return costs.TimeRecord.model_validate_json(path.read_text()), outcome.output


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("flow", SMALL)
@pytest.mark.parametrize("peer", ["zuko", "nflows", "normflows"])
def test_a_peer_on_torch_does_every_work(peer: str, flow: str) -> None:
    if reason := peers.obstacle(peer, SMALL[flow], "cpu"):
        pytest.skip(reason)
    works = getattr(peers, peer)(SMALL[flow], torch.randn(6, 4).numpy(), "cpu")
    density, sampling = works.density(), works.sampling()
    assert isinstance(density, torch.Tensor)
    assert isinstance(sampling, torch.Tensor)
    assert density.shape == (6,)
    assert sampling.shape == (6, 4)
    works.step()
    assert not torch.equal(density, works.density())


@pytest.mark.parametrize("peer", peers.NAMES)
def test_each_peer_works_in_a_process_of_its_own(peer: str, stack: ExitStack) -> None:
    if reason := peers.obstacle(peer, SMALL["maf"], "cpu"):
        pytest.skip(reason)
    process = started(f"flowbench.timing.peers:{peer}", SMALL["maf"], stack)
    assert all(process.run(work, 2) > 0 for work in costs.WORKS)


@pytest.mark.parametrize(
    ("peer", "model", "device", "reason"),
    [
        ("zuko", peers.Model("made-mog", 4, (8,), 2), "cpu", "made-mog"),
        ("flowjax", peers.Model("realnvp", 4, (8, 9), 2), "cpu", "one width"),
        ("normflows", peers.Model("nsf-ar", 4, (8,), 2), "cpu", "nsf-ar"),
        ("zuko", peers.Model("maf", 1, (8,), 2), "cpu", "one column"),
        ("nflows", peers.Model("maf", 4, (8, 9), 2), "cpu", "one width"),
        ("flowjax", peers.Model("maf", 4, (8,), 2), "cuda", "CPU alone"),
    ],
)
def test_a_peer_that_cannot_is_left_out_with_the_reason(
    peer: str, model: peers.Model, device: str, reason: str
) -> None:
    assert reason in (peers.obstacle(peer, model, device) or "")


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ("killed", "the system killed its process"),
        ("exits", "exit code 3"),
        ("fails", "MemoryError: no more of it"),
        ("absent", "No module named 'no_such_library'"),
    ],
)
def test_a_death_says_why_and_the_other_works_go_on(adapter: str, reason: str, stack: ExitStack) -> None:
    process = started(f"fake_peers:{adapter}", SMALL["maf"], stack)
    if adapter != "absent":
        assert process.run("density", 2) >= 1e-3
    with pytest.raises(WorkError, match=reason):
        process.run("step", 1)
    if adapter != "absent":
        assert process.run("density", 2) >= 1e-3
        assert process.run("sampling", 1) >= 1e-3


def test_the_death_of_a_peer_loses_one_figure(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes(monkeypatch, "killed", "sound")
    row, output = timed(tmp_path, "--dim", "4", "--batch", "5")
    shape = row.shapes[0]
    assert {(c.model, c.work) for c in shape.costs} == {
        (model, work) for model in ("maf", "killed", "sound") for work in costs.WORKS
    } - {("killed", "step")}
    assert [(gap.model, gap.work, gap.batch) for gap in shape.missing] == [("killed", "step", 5)]
    assert "failed: the system killed its process" in shape.missing[0].reason
    assert "killed step, batch 5: failed: the system killed its process" in output


@linux
def test_a_peers_process_is_the_first_to_be_killed_and_is_refused_what_is_not_free(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: GIGABYTE)
    process = started("fake_peers:greedy", WIDE, stack)
    process.run("density", 1)
    assert process._process is not None
    assert Path(f"/proc/{process._process.pid}/oom_score_adj").read_text().strip() == "1000"
    with pytest.raises(WorkError, match="Unable to allocate 8"):
        process.run("step", 1)


@linux
def test_what_cannot_fit_is_foreseen(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    need = 80**2 * 4096 + 80 * 2**20  # of 80 columns; 10 columns' is the most that is tried
    monkeypatch.setattr(peer_process, "most_bytes", lambda *what: 10 * GIGABYTE)
    process = started("fake_peers:hungry", WIDE, stack)
    for free, skipped in ((need / 0.8, False), (need / 1.1, True)):
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: int(free))
        reason = peer_process.shortage(process, "step")
        assert bool(reason) == skipped, reason
        assert peer_process.shortage(process, "density") is None
    assert reason == "would need about 0.1 GB, 0.1 GB are free"


@linux
def test_what_is_skipped_is_said_in_the_table_and_in_the_record(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes(monkeypatch, "hungry")
    monkeypatch.setattr(memory, "available_bytes", lambda: 70_000_000)
    monkeypatch.setattr(peer_process, "most_bytes", lambda *what: GIGABYTE)
    row, output = timed(tmp_path, "--dim", "64", "--batch", "5")
    (gap,) = row.shapes[0].missing
    assert gap.reason == "skipped: would need about 0.1 GB, 0.1 GB are free"
    assert f"hungry step, batch 5: {gap.reason}" in output


def test_memory_is_extrapolated_from_fewer_columns() -> None:
    for memory_of in (lambda d: 3 * d + 5 * d * d, lambda d: 7 + 2 * d, lambda d: 9, lambda d: 4 * d):
        known = ((24, memory_of(24)), (98, memory_of(98)))
        assert peer_process.extrapolated(*known, 784) == pytest.approx(memory_of(784))
    assert peer_process.extrapolated((24, 9), (98, 8), 784) == 8  # noise


def test_a_small_model_is_not_tried_first() -> None:
    assert peer_process.most_bytes(peers.Model("iaf", 43, (512, 512), 5), 1000, "step") < 6 * GIGABYTE
    assert peer_process.most_bytes(peers.Model("iaf", 784, (1024,), 5), 100, "step") > 40 * GIGABYTE
    assert peer_process.most_bytes(peers.Model("maf", 784, (1024,), 5), 100, "step") < GIGABYTE


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    for name, text in (("memory.max", "5000"), ("memory.current", "2000")):
        (tmp_path / name).write_text(text)
        (tmp_path / "memory").mkdir(exist_ok=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("4500")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("500")
    if memory.available_bytes() is not None:
        assert memory.available_bytes() == (3000 if "0::" in Path("/proc/self/cgroup").read_text() else 4000)


def test_what_files_have_in_a_containers_memory_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    for folder, limit, used, name in (
        (tmp_path, "max", "current", "inactive_file"),
        (tmp_path / "memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
    ):
        folder.mkdir(exist_ok=True)
        for part, text in ((limit, "5000"), (used, "4000"), ("stat", f"anon 7\n{name} 1500\nfile 3\n")):
            (folder / f"memory.{part}").write_text(text)
    if memory.available_bytes() is not None:
        assert memory.available_bytes() == 2500


def test_a_process_own_limit_counts() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    if memory.available_bytes() is None:
        pytest.skip("nobody tells")
    memory.limit_to(30_000_000)
    try:
        assert 0 < memory.available_bytes() <= 30_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize(("ends", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_figures_are_on_disk_when_flowbench_is_ended(ends: str, code: int, tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from flowbench.__main__ import main\n"
        "from flowbench.progress import Working\n"
        "from flowbench.timing import benchmark\n"
        "benchmark.matrix_rate = lambda device: 1e9\n"  # three seconds
        f"Working.on = lambda self, what: 'sampling' in what and os.kill(os.getpid(), signal.{ends})\n"
        "main()\n"
    )
    arguments = ["time", "maf", "--dim", "2", "--hidden", "4", "--batch", "5", "--seconds", "0", "--out", str(tmp_path)]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    (path,) = tmp_path.glob("*")
    row = costs.TimeRecord.model_validate(json.loads(path.read_text()))
    assert not row.finished
    assert [cost.work for cost in row.shapes[0].costs] == ["density"]
    if ends == "SIGINT":
        assert "unfinished" in ended.stdout
        assert "maf 5 × (1×4)" in ended.stdout
        assert str(path) in ended.stderr


def test_what_is_finished_takes_the_unfinished_ones_place(tmp_path: Path) -> None:
    row, _ = timed(tmp_path, "--dim", "1", "--batch", "5")  # of one column there are no peers
    assert row.finished
    (finished,) = tmp_path.glob("*")
    unfinished = costs.write(row.model_copy(update={"finished": False}), tmp_path)
    assert unfinished != finished
    costs.write(row, tmp_path)
    assert list(tmp_path.glob("*")) == [finished]


def test_signals_of_the_terminal_do_not_end_a_peer(stack: ExitStack) -> None:
    process = started("fake_peers:sound", SMALL["maf"], stack)
    process.run("density", 1)
    assert process._process is not None
    process._process.send_signal(signal.SIGINT)
    assert process.run("density", 1) >= 1e-3
