"""Sweeps on this machine, in real processes: what is killed, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import flowbench

from flowbench.sweep.local import shares

TINY = ["--set", "hidden=8", "--set", "transforms=1"]


def begun(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flowbench", *words, "--out", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [record for record in found if record["kind"] == "run"]


def bits(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    """The rows and the weights of each run, by its name."""
    return {
        record["run"]: tuple((folder / record["files"][kind]).read_bytes() for kind in ("test_lls", "weights"))
        for record in records(folder)
    }


def children(process: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, parent = path.read_text().rpartition(")")[2].split()[1], path.parent.name
        except OSError:
            continue
        if int(name) == process and b"spawn_main" in (path.parent / "cmdline").read_bytes():
            found.append(int(parent))
    return found


def test_a_sweep_lands_each_run_and_one_that_fails_leaves_its_log(tmp_path: Path) -> None:
    words = ["sweep", "maf", *TINY, "--grid", "transforms=1,2", "--max-epochs", "2", "--pick"]
    (tmp_path / "table.npy").write_bytes(b"no table")
    first = begun(tmp_path / "results", *words, "--data", f"digits,{tmp_path / 'table.npy'}")
    stdout, stderr = first.communicate(timeout=120)
    assert first.returncode == 1, stderr  # the table's runs
    assert "2 of 4 runs done" in stderr
    assert "2 ended badly" in stderr
    assert "digits: 64 columns" in stdout
    assert sorted(row["setup"]["config"]["transforms"] for row in records(tmp_path / "results")) == [1, 2]
    (chosen,) = (json.loads(path.read_text())["chosen"] for path in (tmp_path / "results").glob("sweep-*.json"))
    best = max(records(tmp_path / "results"), key=lambda row: row["likelihoods"]["validation_ll_nats"])
    assert chosen == [best["run"]]
    assert stdout.count("not chosen ") == 1
    logs = {path.name: path.read_text() for path in (tmp_path / "results" / "logs").iterdir()}
    assert set(logs) == {f"maf-table.npy-transforms={transforms}-seed0-{transforms + 1}.log" for transforms in (1, 2)}
    assert all("error:" in log for log in logs.values())


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_killed_worker_or_driver_costs_nothing_but_time(tmp_path: Path) -> None:
    shared = ["--data", "digits", *TINY, "--max-epochs", "60"]
    words = ["train", "maf", "--seeds", "2", *shared, "--threads", "1"]
    driver = begun(tmp_path / "seeds", *words)
    wait_for_running(driver, 2)
    os.kill(children(driver.pid)[0], signal.SIGKILL)
    assert driver.stderr is not None
    assert any("waiting (retried 1×)" in line for line in driver.stderr)
    wait_for_running(driver, 1)
    orphans = children(driver.pid)
    driver.kill()
    driver.communicate()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{orphan}").exists() for orphan in orphans):  # none lives on alone
        assert time.monotonic() < until
        time.sleep(0.05)

    again = begun(tmp_path / "seeds", *words)
    stdout, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    found = bits(tmp_path / "seeds")
    assert len(found) == 2
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", "lock"))]
    means = [row["likelihoods"]["test_ll_nats"]["mean"] for row in records(tmp_path / "seeds")]
    assert f"mean over 2 seeds                   {np.mean(means):.3f} nats" in stdout
    assert f"standard deviation over seeds       {np.std(means, ddof=1):.3f} nats" in stdout
    assert "2 standard errors over test rows" in stdout
    alone = ["train", "maf", "--seed", "1", "--threads", "1", *shared, "--out", str(tmp_path / "alone")]
    assert flowbench(*alone).returncode == 0
    assert bits(tmp_path / "alone").items() <= found.items()


def wait_for_running(driver: subprocess.Popen[str], runs: int) -> None:
    assert driver.stderr is not None
    seen = 0
    while seen < runs:
        line = driver.stderr.readline()
        assert line, "it ended before"
        seen += ": running" in line
    time.sleep(1.0)  # into the training


def test_a_stopped_sweep_saves_what_runs(tmp_path: Path) -> None:
    words = ["sweep", "maf", "--data", "digits", "--set", "hidden=8", "--max-epochs", "100000"]
    driver = begun(tmp_path, *words)
    wait_for_running(driver, 1)
    driver.terminate()
    began = time.monotonic()
    driver.communicate(timeout=60)
    assert driver.returncode == 143
    assert time.monotonic() - began < 5
    (row,) = records(tmp_path)
    assert row["status"] == "interrupted"
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", "lock"))]


def test_what_cannot_be_trained_is_found_before_anything_is(tmp_path: Path) -> None:
    for words, said in (
        (["maf", "realnvp", "--grid", "transfroms=5,10"], "did you mean transforms"),
        (["maf", "--data", "digits,digts"], "did you mean digits"),
        (["papers.toml", "maf"], "none can be named beside it"),
    ):
        done = flowbench("sweep", *words, "--dry-run", "--out", str(tmp_path))
        assert done.returncode == 2
        assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_and_trains_nothing(tmp_path: Path) -> None:
    words = "papers.toml", "--seeds", "2", "--no-sketch", "--dry-run", "--json", "--out", str(tmp_path)
    done = flowbench("sweep", *words)
    assert done.returncode == 0, done.stderr
    orders = json.loads(done.stdout)["runs"]
    assert len(orders) == 3 * 3 * 2 * 2
    assert not any(order["sketch"] for order in orders)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("jobs", "at_once", "threads", "gpus", "expected"),
    [
        (18, None, None, 0, (4, 1)),  # slots, threads
        (2, None, None, 0, (2, 2)),
        (1, None, None, 0, (1, 4)),
        (18, None, 2, 0, (2, 2)),
        (18, 3, None, 0, (3, 1)),
        (18, None, 8, 0, (1, 8)),
        (18, None, None, 2, (2, 2)),
    ],
)
def test_the_machine_is_divided_among_the_runs(
    jobs: int, at_once: int | None, threads: int | None, gpus: int, expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    share = shares(jobs, at_once, threads, ["3", "GPU-abc"][:gpus])
    assert (share.slots, share.threads) == expected
    if gpus:
        assert [each["CUDA_VISIBLE_DEVICES"] for each in share.variables] == ["3", "GPU-abc"]
