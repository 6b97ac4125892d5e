"""What flows are put together from: networks, and what stands between their transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from flowbench.config import FlowOptions, Widths
from flowbench.transforms import (
    ACTIVATIONS,
    ActNorm,
    BatchNorm,
    Body,
    LULinear,
    Permutation,
    Transform,
)


class NetworkOptions(FlowOptions):
    """The size of a flow's networks."""

    hidden: Widths = Field((100, 100), description="Units of each hidden layer of a network.")
    activation: Literal["relu", "tanh", "elu"] = Field("relu", description="What the hidden units apply to their sums.")
    residual: bool = Field(
        False, description="Whether the first layer is what blocks add to: each further width is that of a block."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="The share of hidden units left out at random in training.")

    def body(self) -> Body:
        """Of each network."""
        return Body(self.hidden, ACTIVATIONS[self.activation], self.residual, self.dropout)


class StackOptions(NetworkOptions):
    """Transforms one after the other, and what stands between them."""

    transforms: int = Field(5, ge=1, description="Transforms, one after the other.")
    between: Literal["reverse", "random", "lu"] = Field(
        "reverse",
        description="How columns are mixed between transforms: reversed, in a random order, or by a random order and "
        "an invertible matrix, which is learned by its LU factors.",
    )
    batch_norm: bool = Field(True, description="Whether batch normalisation follows each transform.")
    actnorm: bool = Field(False, description="Whether activation normalisation (Glow's) precedes each transform.")


def stack(dim: int, steps: Sequence[Transform], options: StackOptions) -> list[Transform]:
    """Steps with what normalises around each (batch normalisation after the last, too), columns mixed between them."""
    transforms: list[Transform] = []
    for step in steps:
        transforms += mixed(dim, options.between) if transforms else []
        transforms += [ActNorm(dim)] if options.actnorm else []
        transforms += [step]
        transforms += [BatchNorm(dim)] if options.batch_norm else []
    return transforms


def mixed(dim: int, how: Literal["reverse", "random", "lu"]) -> list[Transform]:
    """What mixes the columns between two transforms."""
    if how == "reverse":
        return [Permutation.reverse(dim)]
    return [Permutation.random(dim), *([LULinear(dim)] if how == "lu" else [])]
