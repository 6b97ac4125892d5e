"""What a user ordered of a posterior, and how the model is built."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from flowbench import flows, plugins
from flowbench.config import FlowOptions, TrainingOptions, resolve_as, tables_of
from flowbench.data import Dataset, registry
from flowbench.data.tables.loading import is_path
from flowbench.errors import UsageError
from flowbench.flows import Flow
from flowbench.flows.core.registry import conditional
from flowbench.training.environment import resolve_device
from flowbench.training.order import Order
from flowbench.transforms import WithStatistics
from flowbench.variational.bound import LatentModel
from flowbench.variational.gaussians import Diagonal, Full, Gaussian
from flowbench.variational.likelihoods import Bernoulli, Likelihood, LinearGaussian
from flowbench.variational.networks import ConvolutionalDecoder, ConvolutionalEncoder, begin_small, mlp
from flowbench.variational.options import GAUSSIANS, LatentOptions, PosteriorConfig
from flowbench.variational.pixels import binarised
from flowbench.variational.posterior import Posterior


class PosteriorOrder(Order):
    """A posterior as it was asked for; of the fields for tables none is used."""

    def config(self) -> PosteriorConfig:
        """All that decides the run's numbers; see `Order.config`."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        flow = self.flow if self.flow in GAUSSIANS else plugins.name_of("flows", self.flow)
        options = FlowOptions if flow in GAUSSIANS else flows.load(flow).Options
        if flow not in GAUSSIANS and not conditional(flows.load(flow)):
            raise UsageError(f"{flow} cannot be conditioned, so it is no posterior", f"there are: {', '.join(able())}")
        data = plugins.name_of("datasets", self.data)
        return resolve_as(
            PosteriorConfig,
            {"model": options, "training": TrainingOptions, "latent": LatentOptions},
            tables_of("posterior", self.recipe, data="" if is_path(data) else data, flow=flow),
            self.settings,
            flow=flow,
            data=data,
            recipe=self.recipe,
            code=None if flow in GAUSSIANS else flows.code(flow),
            seed=self.seed,
            init_seed=self.init_seed,
            shuffle_seed=self.shuffle_seed,
            device=resolve_device(self.device),
            threads=torch.get_num_threads(),
        )

    def dataset(self) -> Dataset:
        """The rows of a known latent model as they are; pictures with their pixels drawn as 0 or 1."""
        found = super().dataset()
        return found if known_model(found.name) is not None else binarised(found)


def able() -> list[str]:
    """The names of posteriors."""
    return [*GAUSSIANS, "iaf", "maf", "realnvp", "nsf-ar", "nsf-c"]


def known_model(data: str) -> LinearGaussian | None:
    """The latent model that the rows of a dataset were drawn from, where that is known: its module says it."""
    module: Any = registry.recipe(data) if data in registry.names() else None
    if not hasattr(module, "LOADINGS"):
        return None
    return LinearGaussian(module.LOADINGS, module.OFFSET, module.NOISE_VARIANCES)


def build(config: PosteriorConfig, dataset: Dataset) -> LatentModel:
    """The model of a configuration for rows of the dataset, its weights drawn from torch's generator.

    Raises:
        UsageError: the flow is no posterior, or networks do not suit the rows.
    """
    options, known = config.latent, known_model(dataset.name)
    if known is not None and known.loadings.shape[1] != options.latents:
        raise UsageError(f"{dataset.name} has {known.loadings.shape[1]} latents, not {options.latents}")
    flow = None if config.flow in GAUSSIANS else _flow(config)
    gaussian: Gaussian = (Full if config.flow == "full-gaussian" else Diagonal)(options.latents)
    outputs = gaussian.parameters + (0 if flow is None else options.context)
    try:
        encoder, decoder = _networks(options, dataset.dim, outputs)
    except ValueError as error:
        raise UsageError(f"{dataset.name}: {error}", "--set networks=mlp takes any rows") from error
    likelihood: Likelihood = known or Bernoulli(decoder)
    posterior = Posterior(encoder, gaussian, flow)
    return LatentModel(likelihood, posterior, options.latents, options.kl_warmup_steps, options.free_bits)


def _networks(options: LatentOptions, dim: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    """An encoder of rows of ``dim`` columns, and a decoder."""
    widths, latents = options.encoder, options.latents
    if options.networks == "resnet":
        encoder: nn.Module = ConvolutionalEncoder(dim, widths, options.units, outputs)
        begin_small(encoder.head)  # type: ignore[arg-type]
        return encoder, ConvolutionalDecoder(latents, options.units, widths, dim)
    encoder = mlp(dim, widths, outputs)
    begin_small(encoder)
    return encoder, mlp(latents, widths[::-1], dim)


def _flow(config: PosteriorConfig) -> Flow:
    """The flow, given the encoder's context, from which draws have gradients."""
    given = (0,) * config.latent.context
    flow = flows.build(config.flow, config.latent.latents, config.model, given)
    *_, (last, inverted) = flow.transform.leaves()
    if any(isinstance(module, WithStatistics) for module in flow.modules()):
        raise UsageError(f"a posterior has no statistics of training rows: {config.flow} with batch_norm is none")
    if not flow.bijective or (last.draws > 1 and not inverted) or len(flow.parts) > 1:
        raise UsageError(f"no gradient leads through the draws of {config.flow}", f"there are: {', '.join(able())}")
    return flow
