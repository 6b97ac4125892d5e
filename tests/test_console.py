"""What is printed, as a reader of a terminal and of a log sees it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flowbench import console
from flowbench.errors import UsageError


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to stderr where there is no terminal."""
    file = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=file, highlight=False, soft_wrap=True, emoji=False))
    return file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def epochs(progress: console.Progress, lls: list[float], clock: list[float], each: float) -> None:
    """Epochs of so many seconds each with these validation log-likelihoods."""
    for number, ll in enumerate(lls, start=1):
        clock[0] += each
        best = ll > max(lls[: number - 1], default=float("-inf"))
        progress.epoch(number, len(lls), -1.0, ll, best, 1e4, number * each)


def test_a_log_has_the_first_and_the_last_epoch_and_few_between(log: io.StringIO, clock: list[float]) -> None:
    lls = [float(n) for n in range(98)]
    lls[-1] = 0.5
    with console.Progress(None) as progress:
        epochs(progress, lls, clock, each=0.125)
    lines = log.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["epoch 1/98", "epoch 41/98", "epoch 81/98", "epoch 98/98"]
    assert "validation 40.000 (best) nats" in lines[1]
    assert "validation 0.500 (best 96.000) nats" in lines[3]


def test_slow_epochs_have_a_line_each_and_the_last_only_one(log: io.StringIO, clock: list[float]) -> None:
    with console.Progress(None) as progress:
        epochs(progress, [1.0, 2.0, 3.0], clock, each=6.0)
    assert len(log.getvalue().splitlines()) == 3


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_live_line_fits_the_terminal(width: int, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width)
    monkeypatch.setattr(console, "stderr", terminal)
    monkeypatch.setattr(console, "is_live", lambda: True)
    shown: list[str] = []
    progress = console.Progress(3600.0)
    assert progress._status
    monkeypatch.setattr(progress._status, "update", lambda text: shown.append(str(text)))
    progress.step(1, 2)
    epochs(progress, [-1234.567, -1250.0], clock, each=300.0)
    clock[0] += 1
    progress.step(1, 2)
    assert all(len(line) <= width - console.SPINNER_WIDTH for line in shown), shown
    assert shown[0] == "epoch 1  50%"
    assert shown[1].startswith("epoch 2/2 · next  50%")
    assert ("validation -1250.000 (best -1234.567) nats" in shown[1]) == (width >= 80)
    assert ("train -1.000" in shown[1]) == (width >= 120)


def test_what_looks_like_markup_or_steers_a_terminal_is_shown_as_text(
    log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[red]a[/red]\x1b[2J:smile:\\"
    console.note(name)
    console.warn(name)
    console.show_error(UsageError(name, hint=name))
    console.print_json({name: 1})
    shown = r"[red]a[/red]\x1b[2J:smile:" + "\\"
    assert log.getvalue().splitlines() == [shown, f"warning: {shown}", f"error: {shown}", f"hint: {shown}"]
    assert "[red]a[/red]" in capsys.readouterr().out


def test_one_is_not_many() -> None:
    assert [console.plural(n, "epoch") for n in (0, 1, 2, 1000)] == ["0 epochs", "1 epoch", "2 epochs", "1,000 epochs"]


def test_a_log_on_a_full_disk_is_no_reason_to_stop_but_a_result_is() -> None:
    code = (
        "import os, sys\nfrom flowbench import console\n"
        "full = os.open('/dev/full', os.O_WRONLY)\nos.dup2(full, int(sys.argv[1]))\n"
        "(console.note if sys.argv[1] == '2' else console.print_result)('x')\nprint('went on', file=sys.stdout)\n"
    )
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    log = subprocess.run([sys.executable, "-c", code, "2"], capture_output=True, text=True, check=False)
    assert (log.returncode, log.stdout) == (0, "went on\n")
    result = subprocess.run([sys.executable, "-c", code, "1"], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "No space left" in result.stderr
