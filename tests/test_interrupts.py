"""Signals: what they end, and what they wait for."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbench import interrupts
from flowbench.interrupts import unbroken


@pytest.fixture(autouse=True)
def _handled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_stopped_by", 0)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # and back
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    interrupts.handle()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_signal_interrupts_and_is_remembered(number: signal.Signals) -> None:
    assert interrupts.stopped_by() == 0
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert interrupts.stopped_by() == number


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_before_a_command_begins_the_process_ends(number: signal.Signals) -> None:
    interrupts.handle(starting=True)
    with pytest.raises(SystemExit) as end:
        signal.raise_signal(number)
    assert end.value.code == 128 + number
    interrupts.started()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_one_that_comes_into_an_exec_of_text_ends_the_process_as_others_do(tmp_path: Path) -> None:
    program = (
        "from flowbench import interrupts\nfrom flowbench.cli.command import command\ninterrupts.handle()\n"
        "@command\ndef body(): exec('import signal; signal.raise_signal(signal.SIGTERM)')\nbody()"
    )
    (tmp_path / "program.py").write_text(program)
    run = [sys.executable, "-m", "program"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "interrupted\n")


def test_one_that_comes_into_a_callback_of_c_comes_again() -> None:
    callback = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # it comes a little later
        callback()
        for _ in range(1000):  # a sleep would be slept to its end
            time.sleep(0.01)
    assert interrupts.stopped_by() == signal.SIGTERM


def test_one_that_is_ignored_stays_so_but_for_ctrl_c() -> None:
    for number in interrupts.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    interrupts.handle()
    for number in set(interrupts.SIGNALS) - {signal.SIGINT}:
        signal.raise_signal(number)
    assert interrupts.stopped_by() == 0
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_unbroken_work_is_done_before_it_is_interrupted() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # where it is raised is what is asked
        with unbroken():
            with unbroken():
                signal.raise_signal(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("never")
    assert done == ["inner", "outer"]
    with unbroken():  # it was raised once
        pass


def test_a_second_signal_does_not_wait() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), unbroken():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        done.append("first")
        signal.raise_signal(signal.SIGINT)
        done.append("second")
    assert done == ["first"]
    assert interrupts.stopped_by() == signal.SIGINT
    with unbroken():  # nothing is left over
        done.append("again")
    assert done == ["first", "again"]


def test_what_fails_in_unbroken_work_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ZeroDivisionError), unbroken():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        1 / 0  # noqa: B018
    assert interrupts.stopped_by() == signal.SIGTERM
    with unbroken():
        pass


def test_a_thread_s_work_does_not_make_the_main_one_wait() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with unbroken():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        leave.set()
        thread.join()
