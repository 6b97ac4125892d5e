"""A sweep on a Ray cluster of two nodes without a folder in common, one of which dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_local import TINY, begun, records

pytest.importorskip("ray", reason="the extra ray is not installed")

HEAD, PORTS = 26379, {"head": (21000, 21099), "other": (22000, 22099)}


def node(name: str, *words: str) -> None:
    first, last = PORTS[name]
    ports = [f"--min-worker-port={first}", f"--max-worker-port={last}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
    memory = "--object-store-memory=80000000"
    surroundings = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *ports, memory, *words], env=surroundings, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        pytest.skip(f"Ray does not start here: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def processes(name: str) -> list[int]:
    """Of a node: its raylet, and the workers that it has started."""
    mark, found = f"min_worker_port={PORTS[name][0]}".encode(), []
    raylets = [path for path in Path("/proc").glob("[0-9]*") if mark in _command(path)]
    for path in Path("/proc").glob("[0-9]*"):
        parent = _parent(path)
        if path in raylets or parent in {raylet.name for raylet in raylets}:
            found.append(int(path.name))
    return found


def _command(path: Path) -> bytes:
    try:
        return (path / "cmdline").read_bytes()
    except OSError:
        return b""


def _parent(path: Path) -> str:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return ""


@pytest.fixture
def address() -> Iterator[str]:
    place = Path(f"/tmp/flowbench-ray-{os.getpid()}")  # a socket's path must be short
    try:
        node("head", "--head", f"--port={HEAD}", "--include-dashboard=false", f"--temp-dir={place}")
        node("other", f"--address=127.0.0.1:{HEAD}")
        yield f"127.0.0.1:{HEAD}"
    finally:
        stop = [sys.executable, "-m", "ray.scripts.scripts", "stop", "--force"]
        subprocess.run(stop, capture_output=True, timeout=60, check=False)
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="nodes are looked up in /proc")
def test_a_node_that_dies_costs_a_retry(address: str, tmp_path: Path) -> None:
    shared = ["--data", "digits", *TINY, "--max-epochs", "100"]
    sweep = begun(tmp_path / "cluster", "sweep", "maf", "--seeds", "3", *shared, "--ray", address)
    assert sweep.stderr is not None
    running = 0
    while running < 2:  # one on each node
        line = sweep.stderr.readline()
        assert line, "it ended before"
        running += ": running" in line
    time.sleep(0.5)
    for process in processes("other"):
        os.kill(process, signal.SIGKILL)
    _, stderr = sweep.communicate(timeout=240)
    assert sweep.returncode == 0, stderr
    assert "3 of 3 runs done" in stderr
    assert "ok (retried 1×)" in stderr
    found = records(tmp_path / "cluster")
    assert sorted(row["setup"]["seed"] for row in found) == list(range(3))
    assert {row["files"]["sketch"] for row in found} == {path.name for path in (tmp_path / "cluster").glob("*.sketch")}


def test_no_cluster_is_no_traceback(tmp_path: Path) -> None:
    done = begun(tmp_path, "sweep", "maf", "--ray", "127.0.0.1:1")
    _, stderr = done.communicate(timeout=120)
    assert done.returncode == 2, stderr
    assert "no Ray cluster at 127.0.0.1:1" in stderr
