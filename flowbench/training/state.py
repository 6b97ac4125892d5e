"""Where a training is: what its epochs gave, and what it needs to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt
from torch import Tensor

from flowbench.errors import FlowbenchError
from flowbench.training.objective import Model


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Likelihoods, or what else was climbed, are means in nats.

    The training one is over the epoch's batches as they came.
    """

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


class UnfitStateError(FlowbenchError):
    """A state that is another training's, or damaged."""


class Numbers(BaseModel):
    """Those of a state; ``device`` is its kind."""

    epochs: list[Epoch]
    ended: bool
    steps_of_epoch: NonNegativeInt
    descended: FiniteFloat
    peak_rate: FiniteFloat
    rate: FiniteFloat
    retries: NonNegativeInt
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    device: str


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


def fitting(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What was found, if it has the names, shapes and types of what is one's own.

    Raises:
        UnfitStateError: it has others.
    """
    if different := sorted(found.keys() ^ own.keys()):
        raise UnfitStateError(f"{different[0]} is not in both the state and the training")
    for name, tensor in found.items():
        if (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
            raise UnfitStateError(f"its {name} is {_kind(tensor)}, the training's {_kind(own[name])}")
    return found


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"


class Best:
    """The best epoch by validation so far, and the model's state then; before the first, the state it began with."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.epoch, self.validation_ll, self.state = 0, -math.inf, self._copy()

    def offer(self, epoch: int, validation_ll: float) -> bool:
        """Keep the model as it is now if it is better than all before; return whether it is."""
        better = validation_ll > self.validation_ll
        if better:
            self.epoch, self.validation_ll, self.state = epoch, validation_ll, self._copy()
        return better

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._model.state_dict().items()}
