"""What a whole run of training holds in memory, told from a short one: what grows with each step shows."""

from __future__ import annotations

import copy
import gc
from collections.abc import Collection
from itertools import count

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.flows import Flow
from flowbench.memory import allocated_bytes
from flowbench.training.clock import repeated
from flowbench.training.loop import train

BATCH, STEPS, EPOCHS = 200, 20, 3
"""Rows in a step, steps in an epoch, and epochs. What is counted is exact, so few tell."""

RUN_STEPS = 8000
"""Steps of a whole run: ``max_steps`` by default."""


def training_bytes(flow: Flow, rows: Tensor) -> int | None:
    """What ``flow`` and its training on ``rows`` (N, D) come to hold beyond what was held before, in a whole run.

    The loop is a run's own, and so are drawing and shuffling. It is what a short run holds at its last step, and what
    it grew by a step times the steps that a whole run has left. Growth is that within an epoch or that between two,
    whichever is more: an epoch's end may free what its steps have kept. None where no one tells, or nothing is trained.
    """
    if _held(rows) is None or not any(parameter.requires_grad for parameter in flow.parameters()):
        return None
    rows = repeated(rows, BATCH * STEPS)
    _held_after(copy.deepcopy(flow), rows, ())  # compiles, and makes what lasts
    before = _held(rows) or 0
    last = STEPS * EPOCHS
    an_epoch_ago, half_ago, held = _held_after(flow, rows, (last - STEPS, last - STEPS // 2, last))
    growth = max(0.0, (held - an_epoch_ago) / STEPS, (held - half_ago) / (STEPS // 2))
    return round(held - before + growth * (RUN_STEPS - last))


def _held_after(flow: Flow, rows: Tensor, steps: Collection[int]) -> list[int]:
    """What is held after these steps of a training."""
    length = {"batch_size": BATCH, "max_epochs": EPOCHS, "patience": EPOCHS + 1, "schedule": "constant"}
    options = TrainingOptions.model_validate({**length, "learning_rate": 1e-5})
    taken, held = count(1), list[int]()

    def on_step(done: int, of: int) -> None:
        if next(taken) in steps:
            held.append(_held(rows) or 0)

    train(flow, rows, rows[:BATCH], options, 0, on_step)
    return held


def _held(rows: Tensor) -> int | None:
    """What is held where the rows lie, in bytes; exact, or None."""
    gc.collect()  # what waits for it grows by 2 kB a step, and then shrinks; without it, by less than 200 bytes
    return torch.cuda.memory_allocated(rows.device) if rows.is_cuda else allocated_bytes()
