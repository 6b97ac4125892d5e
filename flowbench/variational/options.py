"""The settings of variational inference beside those of flow and training, and its configurations. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowbench.config import RunConfig, Settings, Widths

GAUSSIANS = ("diagonal", "full-gaussian")
"""Approximations that are no flow."""


class LatentOptions(Settings):
    """The size of a latent variable model, and how its bound is trained and measured."""

    latents: int = Field(32, ge=1, description="Latents K, whose prior is N(0, I).")
    networks: Literal["mlp", "resnet"] = Field(
        "mlp", description="Encoder and decoder: fully connected, or residual convolutions of square pictures."
    )
    encoder: Widths = Field(
        (300, 300),
        description="Units of the encoder's hidden layers, of a resnet feature maps of its stages, each half as large "
        "as the one before; the decoder has them the other way round.",
    )
    units: int = Field(450, ge=1, description="Of a resnet, units of the layer between pictures and latents.")
    context: int = Field(64, ge=0, description="Numbers that the encoder gives to each transform of the flow.")
    free_bits: float = Field(
        0.0, ge=0, description="Nats a latent of the divergence from the prior that cost nothing in training."
    )
    kl_warmup_steps: int = Field(
        0, ge=0, description="Steps in which the weight of the divergence from the prior grows linearly to one."
    )
    importance_samples: int = Field(
        128, ge=1, le=100_000, description="Draws from the posterior of each test row, of which log p(x) is estimated."
    )


class PosteriorConfig(RunConfig):
    """All that decides the numbers of a posterior."""

    latent: LatentOptions


class TargetOptions(Settings):
    """How a flow is fitted to a density known up to a constant."""

    annealing_steps: int = Field(
        0,
        ge=0,
        description="Steps in which the target's log-density counts more and more, from 0.01 to 1 (an inverse "
        "temperature): separate modes are less often missed.",
    )


class TargetConfig(RunConfig):
    """All that decides the numbers of a fit to a target."""

    fitting: TargetOptions
