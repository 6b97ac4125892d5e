"""Breaks as they come to a user: a kill, a signal, a terminal that is closed; and the command that goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import flowbench

COMMAND = [sys.executable, "-m", "flowbench"]

SETTINGS = ["hidden=8", "transforms=1", "batch_size=100", "schedule=constant", "patience=100000", "plateau=none"]


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """An epoch is sixteen steps, in a few milliseconds; without --max-epochs only a break ends it."""
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32))
    sets = [word for setting in [*SETTINGS, "max_steps=none"] for word in ("--set", setting)]
    return ["train", "realnvp", "--data", str(tmp_path / "mine.npy"), *sets]


@contextlib.contextmanager
def started(*words: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the test."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen([*COMMAND, *map(str, words)], **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_checkpoints(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until there have been three."""
    _wait(lambda: any(int(path.name[:6]) > 2 for path in folder.glob("unfinished/*/*.safetensors")), process)


def _wait(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


def read_to(text: str, process: subprocess.Popen[str]) -> None:
    """Read of stderr what comes before a line with this text, and the line."""
    assert process.stderr is not None
    assert any(text in line for line in process.stderr)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def beside(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".npy", ".safetensors")}


def to_go_on(told: str) -> list[str]:
    """The words of the command that is named."""
    found = re.search(r"to go on: flowbench (.*)", told)
    assert found, told
    return shlex.split(found[1])


def test_a_killed_training_goes_on_to_the_same_bytes(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "--max-epochs", "40"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert flowbench(*words, "--out", str(whole)).returncode == 0
    with started(*words, "--out", broken, "--checkpoint-every", "0.01") as process:
        wait_for_checkpoints(broken, process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert records(broken) == []
    done = flowbench(*words, "--out", str(broken))
    assert done.returncode == 0, done.stderr
    assert re.search(r"going on with realnvp-mine.npy-\w+ after \d+ epoch", done.stderr)
    assert beside(broken) == beside(whole)
    (record,) = records(broken)
    assert (record["status"], record["training"]["epochs"]) == ("ok", 40)
    assert {path.name for path in broken.iterdir()} == {f"{record['run']}.json", *record["files"].values()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_what_goes_on_and_it_does(
    number: signal.Signals, code: int, tiny: list[str], tmp_path: Path
) -> None:
    results = tmp_path / "my results"
    with started(*tiny, "--out", results, "--checkpoint-every", "0.01") as process:
        wait_for_checkpoints(results, process)
        process.send_signal(number)
        printed, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert (printed, "Traceback" in told, "interrupted" in told) == ("", False, True)
    (before,) = records(results)
    assert before["status"] == "interrupted"
    assert not [path for path in results.rglob("*") if path.name.endswith((".tmp", "lock"))]
    words = to_go_on(told)
    assert words == ["train", "--resume", before["run"], "--out", str(results)]
    if number == signal.SIGTERM:  # it ends by nothing but itself, so it is finished
        words[1] = "--finish"
        done = flowbench(*words)
        assert done.returncode == 0, done.stderr
        (after,) = records(results)
        assert (after["status"], after["training"]["epochs"]) == ("ok", max(1, before["training"]["epochs"]))
        return
    with started(*words) as process:
        read_to(f"going on with {before['run']} after", process)
        read_to("epoch", process)
        process.send_signal(number)
        process.communicate(timeout=60)
    (after,) = records(results)
    assert after["training"]["epochs"] > before["training"]["epochs"]
    assert after["started_at"] == before["started_at"]
    # only as it was ordered, and by a name that there is
    refused = flowbench(*words, "--seed", "3")
    assert refused.returncode == 2
    assert "take a run as it was ordered: --seed cannot be given beside" in refused.stderr
    refused = flowbench("train", "--resume", before["run"].replace("mine", "mime"), "--out", str(results))
    assert refused.returncode == 2
    assert f"did you mean {before['run']}?" in refused.stderr
    assert records(results) == [after]


def test_what_was_never_begun_is_not_gone_on_with(results: Path) -> None:
    for option in ("--resume", "--finish"):
        done = flowbench("train", option, "nonsense", "--out", str(results))
        assert done.returncode == 2
        assert "has no checkpoint of a run 'nonsense'" in done.stderr
        assert "none was broken off there" in done.stderr
    assert not results.exists()


def test_one_run_is_one_process_s_and_may_outlive_its_terminal(tiny: list[str], results: Path) -> None:
    def as_by_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(*tiny, "--out", results, preexec_fn=as_by_nohup) as process:
        _wait(lambda: any(path.read_text() for path in results.glob("unfinished/*/lock")), process)
        refused = flowbench(*tiny, "--out", str(results))
        assert refused.returncode == 2
        assert f"is being trained by process {process.pid} on " in refused.stderr
        read_to("epoch 1", process)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


if sys.platform == "linux":
    import fcntl
    import termios

    def test_a_closed_terminal_ends_a_training_as_a_signal_does(tiny: list[str], results: Path) -> None:
        master, slave = os.openpty()

        def controlled() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        terminal = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
        words = [*tiny, "--out", results, "--checkpoint-every", "0.01"]
        with started(*words, **terminal, preexec_fn=controlled) as process:
            os.close(slave)
            end = time.monotonic() + 60
            shown = b""
            while b"epoch 2" not in shown and time.monotonic() < end:
                shown += os.read(master, 4096)  # else what is written to it would wait
            os.close(master)
            assert process.wait(60) == 128 + signal.SIGHUP
        (record,) = records(results)
        assert record["status"] == "interrupted"
        assert len(list(results.glob("unfinished/*/*.safetensors"))) == 2
        assert flowbench("train", "--finish", record["run"], "--out", str(results)).returncode == 0
