"""What a reader of a terminal and of a log sees of what is under way."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flowbench import console, progress
from flowbench.sparkline import MOST_KEPT, Curve, sparkline


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
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def epochs(shown: progress.Progress, lls: list[float], clock: list[float], each: float) -> None:
    """Epochs of so many seconds each with these validation log-likelihoods."""
    for number, ll in enumerate(lls, start=1):
        clock[0] += each
        best = ll > max(lls[: number - 1], default=float("-inf"))
        shown.epoch(number, len(lls), -1.0, ll, best, 1e4, number * each)


def test_a_log_has_the_first_and_the_last_epoch_and_few_between(log: io.StringIO, clock: list[float]) -> None:
    lls = [float(n) for n in range(98)]
    lls[-1] = 0.5
    with progress.Progress(None) as shown:
        epochs(shown, lls, clock, each=0.125)
    lines = log.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["epoch 1/98", "epoch 41/98", "epoch 81/98", "epoch 98/98"]
    assert "validation 40.000 (best) nats" in lines[1]
    assert "validation 0.500 (best 96.000) nats" in lines[3]


def test_slow_epochs_have_a_line_each_and_the_last_only_one(log: io.StringIO, clock: list[float]) -> None:
    with progress.Progress(None) as shown:
        epochs(shown, [1.0, 2.0, 3.0], clock, each=6.0)
    assert len(log.getvalue().splitlines()) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 60, 80, 120, 140])
def test_the_live_line_fits_the_terminal(
    width: int, encoding: str, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), force_terminal=True, width=width)
    monkeypatch.setattr(progress, "stderr", terminal)
    monkeypatch.setattr(progress, "is_live", lambda: True)
    lines: list[str] = []
    shown = progress.Progress(3600.0)
    assert shown._status
    monkeypatch.setattr(shown._status, "update", lambda text: lines.append(str(text)))
    shown.step(1, 2)
    epochs(shown, [-1234.567, -1250.0], clock, each=300.0)
    clock[0] += 1
    shown.step(1, 2)
    assert all(len(line) <= width - progress.SPINNER_WIDTH for line in lines), lines
    assert lines[0] == "epoch 1  50%"
    assert lines[1].startswith("epoch 2/2 · next  50%")
    assert ("validation -1250.000 (best -1234.567) nats" in lines[1]) == (width >= 80)
    assert ("train -1.000" in lines[1]) == (width >= 120)
    assert lines[1].endswith(" · █▁") == (width == 140 and encoding == "utf-8")  # two epochs' curve


def test_a_run_that_goes_on_has_its_earlier_epochs_best_and_curve(log: io.StringIO, clock: list[float]) -> None:
    with progress.Progress(None) as shown:
        shown.goes_on([-3.0, -2.0, -1.0], -1.0)
        shown.epoch(4, 4, 0.0, -2.0, False, 1e4, 1.0)
        assert shown._curve.line(20) == "▁▁█▁"
    assert "(best -1.000)" in log.getvalue()
    assert "█" not in log.getvalue()  # a line of a log needs no picture


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([1.0], ""),
        ([1.0, 1.0, 1.0], "▅▅▅"),
        ([-1e30, -1e9, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "▁▁▁▁▁▃▆█"),  # late progress has the height
        ([float("nan"), -5.0, 0.0, float("-inf"), 7.0], "×▁▁×█"),
        ([float("nan")] * 3, "×××"),
        ([5.0, float("nan"), float("nan")], "▅××"),
        ([-1e308, 1e308, -1e308, 1e308], "▁█▁█"),
        ([0.0, 1.0] * 50 + [9.0] * 20, "▁" * 5 + "█"),
    ],
)
def test_a_sparkline(values: list[float], expected: str) -> None:
    assert sparkline(values, len(expected) if len(values) > 20 else 20) == expected


def test_the_curve_of_a_long_run_is_of_all_of_it_and_bounded() -> None:
    curve = Curve(float(n) for n in range(100_000))
    assert len(curve._kept) < MOST_KEPT
    assert curve._kept[0] < 500
    assert curve._kept[-1] > 99_000
    assert curve.line(8)[-4:] == "▁▃▆█"
