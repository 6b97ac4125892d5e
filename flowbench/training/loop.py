"""Training by maximum likelihood: one loop that reads from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.data.rows import Rows, shuffled
from flowbench.engines import choose
from flowbench.engines.differentiate import run
from flowbench.errors import DivergedError
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.training.calibration import calibrate
from flowbench.training.step import Descent


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Likelihoods are means in nats; the training one is over the epoch's batches as they came."""

    number: int
    of: int | None
    """Epochs at the most; None where only time or patience ends training."""
    train_ll_nats: float
    validation_ll_nats: float
    best: bool
    rows: int
    train_seconds: float
    """Descending, without calibration and validation."""
    seconds: float
    """Since training began."""


def train(
    flow: Flow,
    rows: Rows,
    validation: Rows,
    options: TrainingOptions,
    seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Iterator[Epoch]:
    """Fit ``flow`` to ``rows`` (N, D), yielding after each epoch; all rows lie on the flow's device.

    However it ends (the last epoch, patience, time, an interrupt, a divergence), the flow is left in evaluation mode
    with the weights and statistics of the epoch that was best by validation.

    Raises:
        DivergedError: a loss or a validation likelihood is not finite.
    """
    flow.fit_closed_form(rows)
    flow.eval()
    if not any(p.requires_grad for p in flow.parameters()):
        return  # nothing to descend on
    plan, clock, best = _Schedule(options, len(rows)), _Clock(options.max_seconds), _Best(flow)
    descent = Descent(flow, options)
    generator = torch.Generator(rows.device).manual_seed(seed)
    epoch = 0
    try:
        while epoch != plan.last_epoch and epoch - best.epoch < options.patience and not (epoch and clock.over()):
            epoch += 1
            began = clock.seconds()
            flow.train()
            drawn = generator.get_state()
            batches = shuffled(rows, plan.batches, generator)
            losses = torch.empty(plan.steps, device=rows.device)
            done = 0
            while done < plan.steps and not (done and clock.over()):
                # stays on the device: reading it here would wait for every step
                losses[done] = descent.step(next(batches), plan.rate(epoch, done, clock.seconds()))
                done += 1
                on_step(done, plan.steps)
            stopped = bool(descent.stopped)  # the one wait of the epoch
            train_seconds = clock.seconds() - began
            if stopped:
                batches = shuffled(rows, plan.batches, generator.set_state(drawn))
                raise _divergence(flow, batches, losses[:done], epoch)

            flow.eval()
            calibrate(flow, rows)
            validation_ll = float(log_likelihoods(flow, validation).mean())
            better = best.offer(epoch, validation_ll)
            if options.plateau and not better and (epoch - best.epoch) % options.plateau == 0:
                # over-fitting, or a rate too high to see more: neither is mended by going on from here
                flow.load_state_dict(best.state)
                plan.peak_rate /= 3
            train_ll, seen = -float(losses[:done].mean()), plan.batches[done - 1].stop
            yield Epoch(epoch, plan.last_epoch, train_ll, validation_ll, better, seen, train_seconds, clock.seconds())
        if epoch and not best.epoch:
            raise DivergedError(f"the validation log-likelihood was not finite in any of {epoch} epochs")
    finally:
        flow.load_state_dict(best.state)
        flow.eval()


class _Schedule:
    """Batches, length and learning rate, from the options and the number of training rows."""

    def __init__(self, options: TrainingOptions, rows: int) -> None:
        self.options = options
        # a 20th of the rows by default: a small table still gets many steps from an epoch
        batch_size = options.batch_size or min(500, max(50, rows // 20))
        self.peak_rate = options.learning_rate
        self.steps = math.ceil(rows / batch_size)
        cuts = [step * rows // self.steps for step in range(self.steps + 1)]
        self.batches = [slice(start, stop) for start, stop in pairwise(cuts)]
        """The steps' parts of an epoch's order: every row once an epoch, batches equal but for one row."""
        self.last_epoch = options.max_epochs
        if options.max_epochs is None and options.max_steps is not None:
            self.last_epoch = math.ceil(options.max_steps / self.steps)

    def rate(self, epoch: int, done: int, seconds: float) -> float:
        """Linear warm-up; then constant, or half a cosine to zero at the last step or second, whichever is sooner."""
        options = self.options
        step = (epoch - 1) * self.steps + done
        warm = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
        if options.schedule == "constant":
            return self.peak_rate * warm
        by_steps = step / (self.last_epoch * self.steps) if self.last_epoch else 0.0
        by_time = seconds / options.max_seconds if options.max_seconds else 0.0
        return self.peak_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, max(by_steps, by_time))))


class _Clock:
    """Seconds since training began, and whether they are used up."""

    def __init__(self, max_seconds: float | None) -> None:
        self._began = time.perf_counter()
        self._max_seconds = math.inf if max_seconds is None else max_seconds

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def over(self) -> bool:
        return self.seconds() >= self._max_seconds


class _Best:
    """The best epoch by validation so far, and the flow's state then; before the first, the state it began with."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.epoch, self.validation_ll, self.state = 0, -math.inf, self._copy()

    def offer(self, epoch: int, validation_ll: float) -> bool:
        """Keep the flow as it is now if it is better than all before; return whether it is."""
        better = validation_ll > self.validation_ll
        if better:
            self.epoch, self.validation_ll, self.state = epoch, validation_ll, self._copy()
        return better

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._flow.state_dict().items()}


@torch.no_grad()
def _divergence(flow: Flow, batches: Iterator[Tensor], losses: Tensor, epoch: int) -> DivergedError:
    """Where and how an epoch left the finite. The weights are still those with which it did: none followed."""
    step = int((~losses.isfinite()).nonzero()[0])
    last = f"the last finite loss was {float(losses[step - 1]):.4g}" if step else "no loss of the epoch was finite"
    x, culprit = next(islice(batches, step, None)), "the gradient"
    engine = flow.engine or choose(x)
    for index, ((leaf, _), stage) in enumerate(zip(flow.transform.leaves(), flow.stages(), strict=True)):
        x, log_det = run([stage], x, engine)
        if not (x.isfinite().all() and log_det.isfinite().all()):
            culprit = f"transform {index} ({type(leaf).__name__})"
            break
    return DivergedError(
        f"epoch {epoch}, step {step + 1}: the loss is {float(losses[step])}; {last}; first not finite: {culprit}"
    )
