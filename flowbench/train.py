"""Training by maximum likelihood: one loop that reads from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from flowbench.config import TrainingOptions
from flowbench.console import DivergedError
from flowbench.evaluate import log_likelihoods
from flowbench.flows import Flow
from flowbench.optimizer import AdamInnerEpsilon


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
    rows: Tensor,
    validation: Tensor,
    options: TrainingOptions,
    seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Iterator[Epoch]:
    """Fit ``flow`` to ``rows`` (N, D), yielding after each epoch; all tensors lie on the flow's device.

    However it ends (the last epoch, patience, time, an interrupt, a divergence), the flow is left in evaluation mode with
    the weights and statistics of the epoch that was best by validation.

    Raises:
        DivergedError: a loss or a validation likelihood is not finite.
    """
    flow.fit_closed_form(rows)
    parameters = [p for p in flow.parameters() if p.requires_grad]
    best_ll, best_epoch, best_state = -math.inf, 0, _copy(flow)
    if not parameters:  # nothing to descend on: what has a closed form is fitted
        flow.eval()
        return
    optimizer = _optimizer(parameters, options)
    batch_size = _batch_size(options, len(rows))
    steps = len(rows) // batch_size  # the rest of a permutation is left out: another rest each epoch
    last_epoch = _last_epoch(options, steps)
    generator = torch.Generator(rows.device).manual_seed(seed)
    began = time.perf_counter()
    epoch = 0

    def elapsed() -> float:
        return time.perf_counter() - began

    def out_of_time() -> bool:
        return options.max_seconds is not None and elapsed() >= options.max_seconds

    try:
        while epoch != last_epoch and epoch - best_epoch < options.patience and not out_of_time():
            epoch += 1
            epoch_began = elapsed()
            flow.train()
            order = torch.randperm(len(rows), device=rows.device, generator=generator)
            losses = torch.full((steps,), torch.nan, device=rows.device)
            for step in range(steps):
                rate = _learning_rate(options, (epoch - 1) * steps + step, last_epoch and last_epoch * steps, elapsed())
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batch = rows[order[step * batch_size : (step + 1) * batch_size]]
                loss = -flow(batch).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if options.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, options.clip_norm)
                optimizer.step()
                losses[step] = loss.detach()  # stays on the device: reading it here would wait for every step
                on_step(step + 1, steps)
                if out_of_time():
                    break
            losses = losses[: step + 1].cpu()  # the one wait of the epoch
            train_seconds = elapsed() - epoch_began
            if not losses.isfinite().all():
                raise _divergence(flow, rows[order], losses, batch_size, epoch)

            flow.eval()
            flow.calibrate(rows)
            validation_ll = float(log_likelihoods(flow, validation).mean())
            if not math.isfinite(validation_ll):
                raise DivergedError(f"epoch {epoch}: the validation log-likelihood is {validation_ll}")
            better = validation_ll > best_ll
            if better:
                best_ll, best_epoch, best_state = validation_ll, epoch, _copy(flow)
            done = len(losses) * batch_size
            yield Epoch(epoch, last_epoch, -float(losses.mean()), validation_ll, better, done, train_seconds, elapsed())
    finally:
        flow.load_state_dict(best_state)
        flow.eval()


def _optimizer(parameters: list[torch.nn.Parameter], options: TrainingOptions) -> Optimizer:
    choice = {"lr": options.learning_rate, "eps": options.epsilon, "weight_decay": options.weight_decay}
    if options.optimizer == "adam-inner-epsilon":
        return AdamInnerEpsilon(parameters, **choice)
    return Adam(parameters, **choice, fused=True)


def _batch_size(options: TrainingOptions, rows: int) -> int:
    """The batch that was asked for, or a 20th of the rows between 50 and 500; never more than there are rows."""
    return min(rows, options.batch_size or min(500, max(50, rows // 20)))


def _last_epoch(options: TrainingOptions, steps: int) -> int | None:
    """Where training ends if nothing ends it before."""
    if options.max_epochs is not None or options.max_steps is None:
        return options.max_epochs
    return math.ceil(options.max_steps / steps)


def _learning_rate(options: TrainingOptions, step: int, last_step: int | None, seconds: float) -> float:
    """Linear warm-up; then constant, or half a cosine down to zero at the last step or second, whichever comes first."""
    warm = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
    if options.schedule == "constant":
        return options.learning_rate * warm
    by_steps = step / last_step if last_step else 0.0
    by_time = seconds / options.max_seconds if options.max_seconds else 0.0
    return options.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, max(by_steps, by_time))))


def _copy(flow: Flow) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in flow.state_dict().items()}


def _divergence(flow: Flow, rows: Tensor, losses: Tensor, batch_size: int, epoch: int) -> DivergedError:
    """Where and how a loss stopped being finite."""
    step = int((~losses.isfinite()).nonzero()[0])
    last = f"the last finite loss was {float(losses[step - 1]):.4g}" if step else "no loss of the epoch was finite"
    culprit = next(
        (name for name, p in flow.named_parameters() if not p.isfinite().all()),
        "no parameter: a row was stretched beyond what floats hold",
    )
    return DivergedError(
        f"epoch {epoch}, step {step + 1}: the loss is {float(losses[step])}; {last}; first not finite: {culprit}",
        hint="a lower learning_rate, a log_scale_bound, or a clip_norm keeps it finite",
    )
