"""A training that is broken off and gone on with is the one that was never broken off."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowbench import flows
from flowbench.config import TrainingOptions
from flowbench.data import rows as rows_module
from flowbench.data.rows import MappedRows, Rows, on_device
from flowbench.errors import DivergedError
from flowbench.flows import Flow
from flowbench.training import loop, objective, recording, schedule
from flowbench.training.loop import RETRIES, Fit
from flowbench.training.objective import MaximumLikelihood
from flowbench.training.schedule import Clock
from flowbench.training.state import Epoch, State
from flowbench.training.step import Descent

STEPS, EPOCHS = 4, 3
"""Of a training here: 12 steps in all."""

QUICK: dict[str, Any] = {"batch_size": 50, "max_epochs": EPOCHS, "warmup_steps": 3}

Watch = Callable[[Fit, int], None]
"""Called after each step with its number in the epoch, from one on."""


def table(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.5, 0.5, 2.0]])
    return torch.randn(n, 3, generator=generator) @ mix.T + torch.tensor([1.0, -2.0, 0.5])


def built(name: str = "maf", seed: int = 0, **options: object) -> Flow:
    torch.manual_seed(seed)
    module = flows.load(name)
    small = {"hidden": (8,), "transforms": 2} | options
    return module.build(3, module.Options(**{k: v for k, v in small.items() if k in module.Options.model_fields}))


def as_on_disk(state: State) -> State:
    """A copy, as a file gives it: what the training changes afterwards is not in it."""
    tensors = {key: value.clone() for key, value in state.tensors.items()}
    return State(tensors, json.loads(json.dumps(state.numbers)))


@dataclass
class Training:
    """How it is done, and how its parts are put together."""

    name: str = "maf"
    flow_options: dict[str, Any] = field(default_factory=dict)
    rows: Rows = field(default_factory=lambda: table(STEPS * 50))
    options: dict[str, Any] = field(default_factory=dict)
    watch: Watch = lambda fit, step: None
    saved: list[State] = field(default_factory=list)

    def fit(self, state: State | None = None, seed: int = 0) -> tuple[Flow, Fit]:
        """A new flow, with weights of another seed where a state is to take their place."""
        flow = built(self.name, seed, **self.flow_options)
        options = TrainingOptions(**(QUICK | self.options))
        return flow, Fit(MaximumLikelihood(flow), self.rows, table(100, 1), options, 7, state)

    def whole(self, every: float | None = None) -> tuple[Flow, list[Epoch]]:
        """Never broken off."""
        flow, fit = self.fit()
        fit.save_to(lambda state: self.saved.append(as_on_disk(state)), every)
        fit.run(lambda step, steps: self.watch(fit, step))
        return flow, fit.epochs

    def gone_on(self, state: State, seed: int = 99) -> tuple[Flow, list[Epoch]]:
        """From a state to the end, in a process where everything random is elsewhere."""
        flow, fit = self.fit(state, seed)
        fit.save_to(lambda state: self.saved.append(as_on_disk(state)))
        fit.run(lambda step, steps: self.watch(fit, step))
        return flow, fit.epochs

    def broken_off(
        self,
        after: int | None = None,
        state: State | None = None,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    ) -> State:
        """The state that is left by an interrupt after so many steps, or wherever else one comes from."""
        self.saved.clear()
        _, fit = self.fit(state, 0 if state is None else 99)
        fit.save_to(lambda state: self.saved.append(as_on_disk(state)))
        taken = 0

        def count(step: int, steps: int) -> None:
            nonlocal taken
            taken += 1
            self.watch(fit, step)
            if taken == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit.run(count, on_epoch)
        (left,) = self.saved
        return left


def without_times(epochs: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0, train_seconds=0.0) for epoch in epochs]


def assert_same(found: tuple[Flow, list[Epoch]], expected: tuple[Flow, list[Epoch]]) -> None:
    """Bit for bit."""
    assert without_times(found[1]) == without_times(expected[1])
    states = [flow.state_dict() for flow, _ in (found, expected)]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    assert not found[0].training


KINDS = [
    Training("maf"),
    Training("maf", {"batch_norm": False}),
    Training("iaf"),
    Training("realnvp"),
    Training("maf", options={"optimizer": "adam-inner-epsilon", "weight_decay": 1e-3}),
    # far too high a rate, so that there are epochs that are not better
    Training("maf", options={"plateau": 1, "learning_rate": 1.0, "schedule": "constant", "max_epochs": 6}),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name} {kind.flow_options or kind.options or ''}")
def test_from_any_state_it_ends_as_if_never_broken_off(kind: Training) -> None:
    training = replace(kind, saved=[])
    whole = training.whole(every=0.0)
    saved = list(training.saved)
    assert len(saved) == STEPS * len(whole[1]) + 1  # after each step, and at the end
    assert saved[-1].numbers["ended"]
    for state in saved:
        assert_same(training.gone_on(state), whole)
    if kind.options.get("plateau"):
        assert len({epoch.learning_rate for epoch in whole[1]}) > 1


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS, EPOCHS * STEPS])
def test_an_interrupt_after_a_step_leaves_such_a_state(step: int) -> None:
    training = Training()
    whole = training.whole()
    left = training.broken_off(step)
    assert len(left.numbers["epochs"]) == (step - 1) // STEPS
    assert not left.numbers["ended"]
    assert_same(training.gone_on(left), whole)


def test_so_does_one_between_epochs() -> None:
    training = Training()
    whole = training.whole()

    def interrupt(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    left = training.broken_off(on_epoch=interrupt)
    assert (len(left.numbers["epochs"]), left.numbers["steps_of_epoch"]) == (2, 0)
    assert_same(training.gone_on(left), whole)


@pytest.mark.parametrize("epoch", [1, EPOCHS])
@pytest.mark.parametrize("what", ["log_likelihoods", "calibrate"])
def test_so_does_one_in_an_evaluation(what: str, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training()
    whole = training.whole()
    done, calls = getattr(objective, what), 0

    def interrupted(flow: Flow, x: Tensor) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 + epoch:  # two were rehearsed
            done(flow, x[:20])  # statistics of a few rows: what it was at is not to be trusted
            raise KeyboardInterrupt
        return done(flow, x)

    with monkeypatch.context() as patch:
        patch.setattr(objective, what, interrupted)
        left = training.broken_off()
    assert (len(left.numbers["epochs"]), left.numbers["steps_of_epoch"]) == (epoch - 1, STEPS)
    with monkeypatch.context() as patch:  # the epoch's steps are not taken again
        taken: list[int] = []
        training.watch = lambda fit, step: taken.append(step)
        assert_same(training.gone_on(left), whole)
    assert len(taken) == (EPOCHS - epoch) * STEPS


def test_five_breaks_are_as_none() -> None:
    training = Training("realnvp")
    whole = training.whole()
    left: State | None = None
    for steps in (1, 2, 1, 4, 1):  # within an epoch, at its end, and at the next one's first
        left = training.broken_off(steps, left)
    assert left is not None
    assert 4 * len(left.numbers["epochs"]) + left.numbers["steps_of_epoch"] == 9
    assert_same(training.gone_on(left), whole)


def test_random_numbers_go_on_where_they_were() -> None:
    drawn: list[float] = []
    training = Training(watch=lambda fit, step: drawn.append(float(torch.rand(()))))
    training.whole()
    expected, drawn[:] = list(drawn), []
    training.gone_on(training.broken_off(5))
    assert drawn == expected


def test_a_mapped_file_is_gone_on_with_in_the_window_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "WINDOW_BYTES", 70 * 4 * 3)  # windows of one batch: four an epoch
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", 10 * 4 * 3)
    np.save(tmp_path / "a.npy", table(STEPS * 50).numpy())
    mapped = on_device(np.load(tmp_path / "a.npy", mmap_mode="r"), "cpu")
    assert isinstance(mapped, MappedRows)
    training = Training(rows=mapped)
    whole = training.whole(every=0.0)
    for state in list(training.saved):
        assert_same(training.gone_on(state), whole)


def poison(times: int, step_of_epoch: int = 2) -> Watch:
    """Make the weights of the second epoch infinite at a step, until training has gone back so often."""

    def watch(fit: Fit, step: int) -> None:
        if len(fit.epochs) == 1 and step == step_of_epoch and fit.retries < times:
            with torch.no_grad():
                weights = next(fit._objective.model.parameters())
                weights[weights != 0] = torch.inf  # those that a mask forbids stay zero

    return watch


RETRY: dict[str, Any] = {"on_divergence": "retry", "schedule": "constant", "warmup_steps": 0, "learning_rate": 0.01}


def test_what_diverges_goes_back_at_half_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(options=RETRY, watch=poison(2))
    _, epochs = training.whole()
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([0.01, 0.0025, 0.0025])
    assert all(np.isfinite([epoch.train_ll_nats, epoch.gradient_norm]).all() for epoch in epochs)
    assert training.saved[-1].numbers["retries"] == 2
    assert capsys.readouterr().err.count("epoch 2, step 3: the loss is nan") == 2


# the second epoch, in which it leaves the finite, is steps 5 to 8, and 9 to 12 and 13 to 16 are its retries
@pytest.mark.parametrize("step", [5, 6, 7, 8, 9, 11, 12, 14])
@pytest.mark.parametrize("optimizer", ["adam", "adam-inner-epsilon"])
def test_a_break_beside_a_divergence_changes_nothing(step: int, optimizer: str) -> None:
    training = Training(options=RETRY | {"optimizer": optimizer}, watch=poison(2))
    whole = training.whole()
    assert_same(training.gone_on(training.broken_off(step)), whole)
    assert training.saved[-1].numbers["retries"] == 2


def test_nor_does_one_while_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(options=RETRY, watch=poison(1))
    whole = training.whole()

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "divergence", interrupted)
        left = training.broken_off()
    assert_same(training.gone_on(left), whole)


def test_three_times_and_no_more_breaks_or_not() -> None:
    training = Training(options=RETRY, watch=poison(1000))
    with pytest.raises(DivergedError, match="epoch 2, step 3"):
        training.whole()
    left = training.broken_off(14)  # the third time
    assert left.numbers["retries"] == RETRIES - 1
    _, fit = training.fit(left)
    with pytest.raises(DivergedError, match="epoch 2, step 3"):
        fit.run(lambda step, steps: training.watch(fit, step))
    assert fit.retries == RETRIES


def test_to_end_takes_no_step_and_drops_the_epoch_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training()
    left = training.broken_off(6)
    first: list[Epoch] = []
    flow, fit = training.fit()
    fit.run(on_epoch=lambda epoch: (first.append(epoch), fit.end())[0])  # type: ignore[arg-type,func-returns-value]
    assert len(first) == 1
    monkeypatch.setattr(Descent, "step", None)
    other, fit = training.fit(left, 99)
    fit.end()
    fit.run()
    assert_same((other, fit.epochs), (flow, first))


def test_the_first_epoch_counts_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training("maf", {"batch_norm": False})
    left = training.broken_off(3)
    monkeypatch.setattr(Descent, "step", None)
    flow, fit = training.fit(left, 99)
    fit.save_to(lambda state: training.saved.append(as_on_disk(state)))
    fit.end()
    fit.run()
    (epoch,) = fit.epochs
    assert (epoch.rows, epoch.best) == (150, True)
    for name, value in flow.state_dict().items():
        assert torch.equal(value, left.tensors[f"flow.{name}"])
    # and that it has ended is not forgotten
    assert_same(training.gone_on(training.saved[-1]), (flow, fit.epochs))


def test_a_flow_that_is_not_descended_on_leaves_no_state() -> None:
    training = Training("gaussian")
    _, epochs = training.whole(every=0.0)
    assert (epochs, training.saved) == ([], [])


def test_a_state_is_saved_as_often_as_is_wanted_and_at_the_end() -> None:
    for every, states in ((None, 1), (1000.0, 1), (0.0, STEPS * EPOCHS + 1)):
        training = Training()
        training.whole(every)
        assert len(training.saved) == states


class Seconds:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    rehearsal = SimpleNamespace(training=lambda *_: 0.0, closing=lambda test: 3.0, spent=0.0)
    monkeypatch.setattr(loop, "Rehearsal", lambda flow: rehearsal)
    return clock


def test_a_clock_has_the_seconds_before_the_break(seconds: Seconds) -> None:
    clock = Clock(10.0, spent=6.0, reserved=1.0)
    assert (clock.seconds(), clock.limit, clock.over()) == (6.0, 9.0, False)
    seconds.now += 3
    assert (clock.seconds(), clock.over()) == (9.0, True)
    assert Clock(None, spent=1e9).over() is False


@pytest.mark.parametrize("step", [1, 4, 5, 9, 10])
def test_time_before_the_break_counts_and_time_between_does_not(step: int, seconds: Seconds) -> None:
    def tick(fit: Fit, step: int) -> None:
        seconds.now += 1

    # a step a second: ten of them, the last two in the third epoch; the rate falls by time
    timed = {"max_seconds": 10.0, "max_epochs": None, "max_steps": None, "warmup_steps": 0}
    training = Training(options=timed, watch=tick)
    flow, epochs = training.whole()
    assert [epoch.rows for epoch in epochs] == [200, 200, 100]
    assert [epoch.seconds for epoch in epochs] == [4.0, 8.0, 10.0]
    assert epochs[0].learning_rate > epochs[1].learning_rate > epochs[2].learning_rate
    left = training.broken_off(step)
    seconds.now += 1000
    other, found = training.gone_on(left)
    assert [epoch.seconds for epoch in found] == [epoch.seconds for epoch in epochs]
    assert_same((other, found), (flow, epochs))


def test_what_is_needed_for_the_closing_is_kept_free_after_a_break(seconds: Seconds) -> None:
    def tick(fit: Fit, step: int) -> None:
        seconds.now += 1

    training = Training(options={"max_seconds": 10.0}, watch=tick)
    left = training.broken_off(5)
    options = TrainingOptions(**QUICK | training.options)
    fit = Fit(MaximumLikelihood(built()), training.rows, table(100, 1), options, 7, left, test=table(100, 1))
    fit.run(lambda step, steps: tick(fit, step))
    assert [epoch.rows for epoch in fit.epochs] == [200, 150]


def test_the_history_has_every_epoch_of_all_parts() -> None:
    training = Training()
    _, epochs = training.gone_on(training.broken_off(3, training.broken_off(6)))
    found = recording.training(recording.Outcome(None, epochs=epochs))
    assert found.history is not None
    lists = found.history.model_dump()
    assert {name: len(values) for name, values in lists.items()} == dict.fromkeys(lists, EPOCHS)
    assert lists["seconds"] == sorted(lists["seconds"])
    assert found.epochs == EPOCHS


def test_a_step_that_is_torn_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(own: Descent, rows: Tensor, rate: float) -> Tensor:
        loss = step(own, rows, rate)
        if len(states) == 6:  # the weights have moved, the count has not: a second signal does not wait
            raise KeyboardInterrupt
        return loss

    step, states = Descent.step, Training().saved
    monkeypatch.setattr(Descent, "step", torn)
    training = Training(saved=states)
    with pytest.raises(KeyboardInterrupt):
        training.whole(every=0.0)
    assert len(states) == 6
    monkeypatch.undo()
    assert_same(training.gone_on(states[-1]), Training().whole())


def test_on_another_kind_of_device_the_epoch_under_way_begins_anew() -> None:
    training = Training()
    left = training.broken_off(6)  # two steps into the second epoch
    elsewhere = State(
        left.tensors | {"random.order": torch.zeros(16, dtype=torch.uint8)}, left.numbers | {"device": "cuda"}
    )
    _, epochs = training.gone_on(elsewhere)
    assert [epoch.rows for epoch in epochs] == [200, 200, 200]
    _, whole = Training().whole()
    assert without_times(epochs)[0] == without_times(whole)[0]
    assert epochs[1] != whole[1]
