"""What a conditional density p(x | c) is given: the first columns of its rows, numbers or classes. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from flowbench.data.preprocessing import Positive

Float64 = NDArray[np.float64]


class GivenColumn(BaseModel):
    """A given column: a number, or a class where it has ``labels``, which are in the order of their codes 0, 1, ...

    Of numbers, a flow sees ``(value − location) / scale``; of classes, the code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    labels: tuple[str, ...] = ()
    location: FiniteFloat = 0.0
    scale: Positive = 1.0

    @model_validator(mode="after")
    def _codes_stay(self) -> GivenColumn:
        if self.labels and (self.location, self.scale) != (0.0, 1.0):
            raise ValueError("codes of classes have no location and scale")
        return self

    @property
    def classes(self) -> int:
        """How many there are; 0 of a number."""
        return len(self.labels)

    def __str__(self) -> str:
        """It in words."""
        return f"{self.name!r} ({self.classes} classes)" if self.labels else f"{self.name!r} (a number)"


def standardised(columns: Sequence[GivenColumn], values: Float64) -> Float64:
    """What flows see of given values (N, G): numbers in their own units, and codes of classes."""
    location, scale = (np.array([getattr(column, name) for column in columns]) for name in ("location", "scale"))
    return np.asarray((values - location) / scale)


def features(classes: Sequence[int], rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rows (N, G + D) with each class of so many among the first columns as zeros and a one, the last as zeros.

    So a linear function of the first columns is any function of a class; with the last class's own column they would
    always have the sum 1.
    """
    if not any(classes):
        return rows
    parts = [
        (rows[:, i : i + 1] == np.arange(count - 1)).astype(rows.dtype) if count else rows[:, i : i + 1]
        for i, count in enumerate(classes)
    ]
    return np.concatenate([*parts, rows[:, len(classes) :]], axis=1)
