"""Where a training is: what its epochs gave, and what it needs to go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flowbench.flows import Flow


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
    learning_rate: float
    """Of its last step."""
    gradient_norm: float
    """The mean over its steps, before clipping."""


def best_of(epochs: Sequence[Epoch]) -> Epoch | None:
    """The one whose weights are kept: the last that was the best so far; None where none was."""
    return next((epoch for epoch in reversed(epochs) if epoch.best), None)


@dataclass(frozen=True)
class State:
    """All that a training needs to go on as if it had never stopped: tensors, and what JSON can hold."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with this one and a dot."""
        return {
            key.removeprefix(f"{name}."): value for key, value in self.tensors.items() if key.startswith(f"{name}.")
        }


class Best:
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
