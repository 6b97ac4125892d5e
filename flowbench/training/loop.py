"""Training: one loop that reads from top to bottom, and can be left and gone on with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch

from flowbench.config import TrainingOptions
from flowbench.console import warn
from flowbench.data.rows import Rows, shuffled
from flowbench.errors import DivergedError
from flowbench.flows import Flow
from flowbench.interrupts import unbroken
from flowbench.memory import give_back_freed
from flowbench.training.divergence import divergence
from flowbench.training.objective import MaximumLikelihood, Objective
from flowbench.training.rehearsal import Rehearsal
from flowbench.training.schedule import Clock, Saves, Schedule
from flowbench.training.state import Best, Epoch, State, UnfitStateError, best_of, fitting
from flowbench.training.step import Descent

RETRIES = 3
"""Times that a training goes back from what is not finite, where that is wanted."""

STEPS_AHEAD = 50
"""That a device may be behind where time ends training."""


def train(
    flow: Flow,
    rows: Rows,
    validation: Rows,
    options: TrainingOptions,
    seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Fit ``flow`` to ``rows`` (N, D) by maximum likelihood, from its beginning to its end; see `Fit`."""
    fit = Fit(MaximumLikelihood(flow), rows, validation, options, seed)
    fit.run(on_step, on_epoch)
    return fit.epochs


class Fit:
    """A training of an objective's model on ``rows`` (N, D); all rows lie on the model's device.

    Args:
        seed: of the batches' order.
        start: where to go on; None: at the beginning.
        test: what will be tested on after training: the time for it, and for checks, is part of
            ``options.max_seconds``.
    """

    def __init__(
        self,
        objective: Objective,
        rows: Rows,
        validation: Rows,
        options: TrainingOptions,
        seed: int,
        start: State | None = None,
        test: Rows | None = None,
    ) -> None:
        self._objective, self._rows, self._validation, self._options = objective, rows, validation, options
        self._start, self._test = start, test
        self._generator = torch.Generator(rows.device).manual_seed(seed)
        self._plan = Schedule(options, len(rows))
        self._save: Callable[[State], None] = lambda state: None
        self._saves = Saves(math.inf)
        self._ending = self._torn = False
        self.begun = False
        """Whether the model, if it is interrupted now, gets its best weights."""
        self.epochs: list[Epoch] = [Epoch(**epoch) for epoch in start.numbers["epochs"]] if start else []
        self.retries: int = start.numbers["retries"] if start else 0

    def save_to(self, save: Callable[[State], None], every: float | None = None) -> None:
        """Have a state saved every so many seconds, when an interrupt ends the training, and at its end.

        None: every minute, or less often where saving takes long.
        """
        self._save, self._saves = save, Saves(every)

    def end(self) -> None:
        """Have ``run`` take no more steps. An epoch that was under way counts only if there is none before it."""
        self._ending = True

    def run(
        self,
        on_step: Callable[[int, int], None] = lambda step, steps: None,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    ) -> None:
        """Train to the end.

        However it ends (the last epoch, patience, time, an interrupt, a divergence), the model is left in evaluation
        mode with the weights and statistics of the epoch that was best by validation.

        Raises:
            DivergedError: a loss or every validation likelihood is not finite.
            UnfitStateError: where it was to go on is another training's; nothing was done.
        """
        if not self._begin():
            return  # nothing to descend on
        self.begun = True
        try:
            while self._goes_on():
                if self._descend(on_step):
                    on_epoch(self._evaluate())
                else:
                    self._go_back()
            if self.epochs and not self._best.epoch:
                raise DivergedError(f"the validation log-likelihood was not finite in any of {len(self.epochs)} epochs")
            self._ending = True
            self._keep()
        except KeyboardInterrupt:
            if (self._done or self.epochs) and not self._torn:
                self._keep()
            raise
        finally:
            with unbroken():
                self._objective.model.load_state_dict(self._best.state)
                self._objective.model.eval()

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Work that no signal tears; what tears it all the same is remembered: such a state is not saved."""
        with unbroken():
            self._torn = True
            yield
            self._torn = False

    def _begin(self) -> bool:
        rows, start, model = self._rows, self._start, self._objective.model
        if start is None:
            self._objective.begin(rows, self._validation)
        else:
            model.load_state_dict(fitting(start.part("flow"), model.state_dict()))
        model.eval()
        if not any(p.requires_grad for p in model.parameters()):
            return False
        self._ending |= bool(start and start.numbers["ended"])
        rehearsal, closing = Rehearsal(self._objective), 0.0  # before the clock starts: what it compiles is not counted
        self._evaluation = 0.0
        if not self._ending:
            batch = self._plan.batches[0]
            self._evaluation = rehearsal.training(rows, self._validation, self._options, batch)
            closing = rehearsal.closing(self._test) if self._options.max_seconds and self._test is not None else 0.0
        spent = (start.numbers["seconds"] if start else 0.0) + (rehearsal.spent if self._options.max_seconds else 0.0)
        del rehearsal
        give_back_freed()  # what is taken from here on has other sizes, and would not go where the copy was
        self._best, self._descent = Best(model), Descent(model, self._options)
        self._losses = torch.empty(self._plan.steps, device=rows.device)
        self._drawn = self._generator.get_state()  # before the epoch's order is drawn
        self._done, self._descended = 0, 0.0  # steps of the epoch under way, and the seconds that they took
        self._rate = self._options.learning_rate
        self._cut_short = False  # an epoch, by time
        if start is not None:
            self._restore(start)
            self._start = None
        self._clock = Clock(self._options.max_seconds, spent, self._evaluation + closing)
        return True

    def _goes_on(self) -> bool:
        epochs, best = len(self.epochs), self._best.epoch
        if epochs == self._plan.last_epoch or epochs - best >= self._options.patience:
            return False
        if self._ending:
            return bool(self._done) and not best
        return self._done > 0 or not (epochs and (self._cut_short or self._clock.over()))

    def _descend(self, on_step: Callable[[int, int], None]) -> bool:
        """Take the epoch's steps, those that are left of it; whether all was finite."""
        self._objective.model.train()
        plan, clock, epoch = self._plan, self._clock, len(self.epochs) + 1
        began = clock.seconds() - self._descended
        batches = shuffled(self._rows, plan.batches, self._generator.set_state(self._drawn))
        for _ in range(self._done):
            next(batches)
        while self._done < plan.steps and not (self._done and (self._ending or clock.over())):
            with self._unbroken():
                self._rate = plan.rate(epoch, self._done, clock)
                # stays on the device: reading it here would wait for every step
                self._losses[self._done] = self._descent.step(next(batches), self._rate)
                self._done += 1
                self._descended = clock.seconds() - began
            on_step(self._done, plan.steps)
            if clock.limit < math.inf and self._done % STEPS_AHEAD == 0:
                bool(self._descent.stopped)  # a device that is far behind would run over the time
            if self._saves.due():
                self._keep()
        finite = not self._descent.stopped  # the one wait of the epoch
        self._descended = clock.seconds() - began
        self._cut_short = self._done < plan.steps
        return finite

    def _evaluate(self) -> Epoch:
        """Calibrate, validate, and end the epoch."""
        objective, best, plan, done = self._objective, self._best, self._plan, self._done
        began = self._clock.seconds()
        objective.model.eval()
        with self._descent.averaged():
            objective.settle(self._rows)
            validation_ll = objective.value(self._validation)
            with self._unbroken():
                number = len(self.epochs) + 1
                better = best.offer(number, validation_ll)
        took = self._clock.seconds() - began
        self._clock.reserved += took - self._evaluation
        self._evaluation = took
        with self._unbroken():
            if self._options.plateau and not better and (number - best.epoch) % self._options.plateau == 0:
                # over-fitting, or a rate too high to see more: neither is mended by going on from here
                objective.model.load_state_dict(best.state)
                self._descent.average_anew()
                plan.peak_rate /= 3
            epoch = Epoch(
                number=number,
                of=plan.last_epoch,
                train_ll_nats=-float(self._losses[:done].mean()),
                validation_ll_nats=validation_ll,
                best=better,
                rows=plan.batches[done - 1].stop,
                train_seconds=self._descended,
                seconds=self._clock.seconds(),
                learning_rate=self._rate,
                gradient_norm=float(self._descent.state["norms"]) / done,
            )
            self.epochs.append(epoch)
            self._next_epoch()
        return epoch

    def _go_back(self) -> None:
        """From what is not finite to the best epoch, at half the rate.

        Raises:
            DivergedError: that is not wanted, or has been done often enough.
        """
        batches = shuffled(self._rows, self._plan.batches, self._generator.set_state(self._drawn))
        error = divergence(self._objective, batches, self._losses[: self._done], len(self.epochs) + 1)
        if self._options.on_divergence == "stop" or self.retries == RETRIES:
            raise error
        with self._unbroken():
            warn(f"{error}; back to epoch {self._best.epoch}, at half the rate")
            self._objective.model.load_state_dict(self._best.state)
            self._descent.forget()
            self._plan.peak_rate /= 2
            self.retries += 1
            self._next_epoch()

    def _next_epoch(self) -> None:
        self._drawn = self._generator.get_state()
        self._done, self._descended = 0, 0.0
        self._descent.state["norms"].zero_()

    def _keep(self) -> None:
        """Save the state; what that costs bounds how often it is done."""
        with unbroken(), self._saves.under_way():
            self._save(self._state())

    def _state(self) -> State:
        parts = {
            "flow": self._objective.model.state_dict(),
            "best": self._best.state,
            "optimizer": self._descent.state,
            "random": {"order": self._drawn, "torch": torch.get_rng_state()},
            "epoch": {"losses": self._losses[: self._done]},
        }
        if self._rows.device.type == "cuda":
            parts["random"]["cuda"] = torch.cuda.get_rng_state(self._rows.device)
        numbers = {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "ended": self._ending,
            "steps_of_epoch": self._done,
            "descended": self._descended,
            "peak_rate": self._plan.peak_rate,
            "rate": self._rate,
            "retries": self.retries,
            "seconds": self._clock.seconds(),
            "device": self._rows.device.type,
        }
        tensors = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
        return State(tensors, numbers)

    def _restore(self, state: State) -> None:
        numbers, random = state.numbers, state.part("random")
        if best := best_of(self.epochs):
            self._best.epoch, self._best.validation_ll = best.number, best.validation_ll_nats
        best_state = fitting(state.part("best"), self._best.state)
        self._best.state = {key: value.to(self._rows.device) for key, value in best_state.items()}
        for key, value in fitting(state.part("optimizer"), self._descent.state).items():
            self._descent.state[key].copy_(value)
        self._plan.peak_rate, self._rate = numbers["peak_rate"], numbers["rate"]
        if numbers["device"] != self._rows.device.type:
            self._next_epoch()  # another device draws other orders: the epoch that was under way begins anew
            return
        self._done, self._descended = numbers["steps_of_epoch"], numbers["descended"]
        try:
            fitting(state.part("epoch"), {"losses": self._losses[: self._done]})
            self._losses[: self._done] = state.tensors["epoch.losses"]
            self._drawn = random["order"]
            self._generator.set_state(self._drawn)
            torch.set_rng_state(random["torch"])
            if "cuda" in random:
                torch.cuda.set_rng_state(random["cuda"], self._rows.device)
        except (KeyError, TypeError, RuntimeError) as error:  # random numbers' states are checked where they are taken
            raise UnfitStateError(f"its random numbers go on from nowhere: {error}") from error
