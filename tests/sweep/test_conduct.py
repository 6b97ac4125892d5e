"""A sweep under way, with workers that do as they are told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console

from flowbench.sweep import conduct as conducting
from flowbench.sweep.board import Board, _page
from flowbench.sweep.conduct import TRIES, Event, Lost, State, conduct
from flowbench.sweep.spec import Job, Spec, jobs
from flowbench.sweep.work import Begun, Done, Told

OK = [Begun(), Told(1, 2, -3.5, 1.0), Done("ok", "run")]


class Script:
    """Workers for whom it is written what happens to each run, try by try."""

    def __init__(self, slots: int, happens: dict[int, list[list[Event]]]) -> None:
        self.slots, self.happens = slots, happens
        self.under_way: list[Job] = []
        self.started: list[int] = []
        self.most = 0
        self.stopped = False

    @property
    def free(self) -> int:
        return self.slots - len(self.under_way)

    def start(self, job: Job, retried: bool = False) -> None:
        self.under_way.append(job)
        self.started.append(job.number)
        self.most = max(self.most, len(self.under_way))

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        for job in list(self.under_way):
            tries = self.happens.get(job.number, [OK])
            for event in tries.pop(0) if len(tries) > 1 else tries[0]:
                if not isinstance(event, Begun | Told):
                    self.under_way.remove(job)
                yield job, event

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.stopped = True


def carried_out(workers: Script, runs: int = 4, deadline: float | None = None) -> list[State]:
    shown: list[Sequence[State]] = []
    states = conduct(jobs(Spec(flows=("maf",), seeds=runs)), workers, lambda all_, one: shown.append(all_), deadline)
    assert workers.stopped
    assert shown or deadline is not None
    return states


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conducting, "HELD_SECONDS", 0.01)


def test_each_run_is_done_once_and_no_more_at_a_time_than_there_are_slots() -> None:
    workers = Script(2, {})
    states = carried_out(workers)
    assert workers.started == [0, 1, 2, 3]
    assert workers.most == 2
    assert [(state.stage, state.run, state.retried) for state in states] == [("ok", "run", 0)] * 4


def test_a_run_that_fails_does_not_stop_the_others() -> None:
    states = carried_out(
        Script(1, {1: [[Begun(), Done("failed", error="why")]], 2: [[Begun(), Done("diverged", "it")]]})
    )
    assert [state.stage for state in states] == ["ok", "failed", "diverged", "ok"]
    assert states[1].error == "why"


def test_a_run_whose_process_dies_is_tried_again() -> None:
    workers = Script(1, {0: [[Begun(), Lost("it died")], OK]})
    states = carried_out(workers, 2)
    assert sorted(workers.started) == [0, 0, 1]
    assert [(state.stage, state.retried) for state in states] == [("ok", 1), ("ok", 0)]


def test_what_always_dies_is_given_up() -> None:
    workers = Script(1, {0: [[Begun(), Lost("it died")]]})
    states = carried_out(workers, 2)
    assert workers.started.count(0) == TRIES
    assert [(state.stage, state.error) for state in states] == [("failed", "it died"), ("ok", None)]


def test_a_run_that_another_process_is_at_is_looked_at_again() -> None:
    states = carried_out(
        Script(2, {0: [[Begun(), Done("held", error="by 7")]] * 3 + [[Begun(), Done("finished", "run")]]}), 2
    )
    assert [(state.stage, state.error, state.retried) for state in states] == [("finished", None, 0), ("ok", None, 0)]


def test_a_run_that_was_stopped_alone_goes_on() -> None:
    workers = Script(1, {0: [[Begun(), Done("interrupted")], OK]})
    assert [state.stage for state in carried_out(workers, 1)] == ["ok"]


def test_time_ends_it_in_good_order() -> None:
    workers = Script(1, {0: [[Begun()]]})
    states = carried_out(workers, 2, deadline=time.monotonic() + 0.05)
    assert [state.stage for state in states] == ["interrupted", "waiting"]


def test_an_interrupt_stops_the_workers() -> None:
    workers = Script(1, {})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conduct(jobs(Spec(flows=("maf",))), workers, interrupt)
    assert workers.stopped


def test_without_a_terminal_a_line_says_what_has_happened(capsys: pytest.CaptureFixture[str]) -> None:
    workers = Script(1, {1: [[Begun(), Lost("its node died")], OK], 2: [[Begun(), Done("failed", error="bad\nmore")]]})
    with Board(1) as board:
        conduct(jobs(Spec(flows=("maf",), seeds=3)), workers, board.show)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "maf-patches-seed0: running (1 running · 2 waiting)"
    assert "maf-patches-seed0: ok · epoch 1/2 · validation -3.500 nats · 0:00" in lines[1]
    assert any("seed1: ok (retried 1×)" in line for line in lines)
    assert any(line.startswith("maf-patches-seed2: failed · bad · 0:00") for line in lines)


def test_on_a_terminal_a_table_shows_what_has_room() -> None:
    states = [State(job) for job in jobs(Spec(flows=("maf",), seeds=30, grid={"transforms": [5]}))]
    states[17].stage, states[17].told, states[17].began = "running", Told(3, 9, -1.25, 65.0), time.monotonic()
    console = Console(width=120)
    with console.capture() as captured:
        console.print(_page(states, "1 running", 5))
    text = captured.get()
    assert "maf   patches  transforms=5  17    running  epoch 3/9 · validation -1.250 nats" in text
    assert "1:05" in text
    assert "and 25 more" in text
