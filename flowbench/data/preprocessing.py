"""What was done to raw values before a flow sees them: a list of steps that is written to strict JSON and read back.

These are specifications. Torch is not imported here: `flowbench.transforms.preprocessing` has the mathematics, and
`flowbench.flows.core.density` builds it from these.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dequantise(_Step):
    """Uniform noise on [0, step) is added to columns of discrete values, which are ``origin + k·step``.

    ``steps`` are the D widths, 0 for a column that gets none; ``origin`` has a number for each column too, and is None
    where that is not known. One number stands for all columns.
    """

    kind: Literal["dequantise"] = "dequantise"
    steps: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]
    origin: tuple[FiniteFloat, ...] | None = (0.0,)

    @classmethod
    def of(cls, steps: NDArray[np.float64], values: NDArray[np.float64]) -> Dequantise:
        """The step with these widths (D,), and as the origin what of one of each column's ``values`` (D,) is no step.

        So 3, 8, 13, ... start at 3, but 0.3, 0.4, ... at 0, as they are written: the multiples of a step are exact.
        """
        count = values / np.where(steps > 0, steps, 1)
        whole = np.abs(count - np.rint(count)) < 1e-4  # far from zero, rounding leaves no more digits
        return cls(steps=tuple(steps.tolist()), origin=tuple(np.where(whole | (steps == 0), 0.0, values).tolist()))


class Standardise(_Step):
    """Each of the D columns minus its ``location``, over its ``scale``."""

    kind: Literal["standardise"] = "standardise"
    location: tuple[FiniteFloat, ...]
    scale: tuple[Positive, ...]

    @classmethod
    def of(cls, location: NDArray[np.float64], scale: NDArray[np.float64]) -> Standardise:
        """The step with the ``location`` and ``scale`` (D,) of these arrays."""
        return cls(location=tuple(location.tolist()), scale=tuple(scale.tolist()))


class Bounded(_Step):
    """Numbers between bounds to all numbers: log(x − l), −log(h − x), or log(x − l) − log(h − x) where there are both.

    ``lower`` and ``upper`` are l and h of each of the D columns, None where it has none; it is left alone without
    either. A value that is nearer to a bound than the column's ``margin`` is taken at that distance: the density at a
    bound is finite.
    """

    kind: Literal["bounded"] = "bounded"
    lower: tuple[FiniteFloat | None, ...]
    upper: tuple[FiniteFloat | None, ...]
    margin: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _in_order(self) -> Bounded:
        for low, high in zip(self.lower, self.upper, strict=False):
            if low is not None and high is not None and not low < high:
                raise ValueError(f"the bounds {low:g} and {high:g} hold nothing between them")
        return self

    def unbounded(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What numbers x (n, D) become; NaN stays, and what lies outside is taken for what is nearest."""
        u = x.copy()
        for i, (low, high, margin) in enumerate(zip(self.lower, self.upper, self.margin, strict=True)):
            if low is None and high is None:
                continue
            above = 1.0 if low is None else np.maximum(x[:, i] - low, margin)
            below = 1.0 if high is None else np.maximum(high - x[:, i], margin)
            u[:, i] = np.log(above) - np.log(below)
        return u


class Compress(_Step):
    """What has heavy tails to what has none: log x, or asinh((x − ``location``)/``scale``).

    ``by`` says which of the D columns becomes what, None of one that is left alone; ``location`` and ``scale`` are
    those of asinh, 0 and 1 elsewhere.
    """

    kind: Literal["compress"] = "compress"
    by: tuple[Literal["log", "asinh"] | None, ...]
    location: tuple[FiniteFloat, ...]
    scale: tuple[Positive, ...]

    def compressed(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What numbers x (n, D) become; NaN stays, and is what a number becomes that has no logarithm."""
        u = x.copy()
        for i, (by, location, scale) in enumerate(zip(self.by, self.location, self.scale, strict=True)):
            if by == "log":
                u[:, i] = np.log(np.where(x[:, i] > 0, x[:, i], np.nan))
            if by == "asinh":
                u[:, i] = asinh(x[:, i], location, scale)
        return u


class Logit(_Step):
    """Pixel values v on [0, ``levels``) become logit(alpha + (1 − 2 alpha)·v/levels) (MAF paper, section 4.3)."""

    kind: Literal["logit"] = "logit"
    alpha: Annotated[float, Field(ge=0, lt=0.5)]
    levels: PositiveInt


class SubtractMean(_Step):
    """Patches of D + 1 values on [0, ``levels``), over ``levels`` and minus their mean, without the last pixel: D."""

    kind: Literal["subtract-mean"] = "subtract-mean"
    levels: PositiveInt


def asinh(x: NDArray[np.float64], location: float, scale: float) -> NDArray[np.float64]:
    """asinh((x − location)/scale), infinite where that is too far for floating point."""
    with np.errstate(over="ignore"):
        return np.asarray(np.arcsinh((x - location) / scale))


def bounds_in_words(pair: tuple[float | None, float | None]) -> str:
    """As an option has them: low:high, or one of them."""
    return ":".join("" if bound is None else f"{bound:g}" for bound in pair)


def noise_widths(preprocessing: Preprocessing | None) -> tuple[float, ...]:
    """The widths of the noise, none where there is none."""
    return next((step.steps for step in preprocessing or () if isinstance(step, Dequantise)), ())


Step = Annotated[Dequantise | Bounded | Compress | Standardise | Logit | SubtractMean, Field(discriminator="kind")]

Preprocessing = tuple[Step, ...]
"""The steps from raw values to the space of a flow, the first one first; none where rows are taken as they are."""
