"""What a user ordered of a posterior, and how the model is built."""

from __future__ import annotations

from typing import Any

from torch import nn

from flowbench import flows, plugins
from flowbench.config import tables_of
from flowbench.data import Dataset, registry
from flowbench.data.tables.loading import is_path
from flowbench.errors import UsageError
from flowbench.flows.core.registry import conditional
from flowbench.variational.approximation import ABLE, ApproximationOrder, with_gradients
from flowbench.variational.bound import LatentModel
from flowbench.variational.gaussians import Diagonal, Full, Gaussian
from flowbench.variational.likelihoods import Bernoulli, Likelihood, LinearGaussian
from flowbench.variational.networks import ConvolutionalDecoder, ConvolutionalEncoder, begin_small, mlp
from flowbench.variational.options import GAUSSIANS, LatentOptions, PosteriorConfig
from flowbench.variational.pixels import binarised
from flowbench.variational.posterior import Posterior


class PosteriorOrder(ApproximationOrder):
    """A posterior as it was asked for; of the fields for tables none is used."""

    def config(self) -> PosteriorConfig:
        """All that decides the run's numbers; see `Order.config`."""
        flow = self.approximation
        if flow not in GAUSSIANS and not conditional(flows.load(flow)):
            raise UsageError(f"{flow} cannot be conditioned, so it is no posterior", f"there are: {', '.join(ABLE)}")
        data = plugins.name_of("datasets", self.data)
        packaged = tables_of("posterior", self.recipe, data="" if is_path(data) else data, flow=flow)
        return self.resolved(PosteriorConfig, {"latent": LatentOptions}, packaged, data)

    def dataset(self) -> Dataset:
        """The rows of a known latent model as they are; pictures with their pixels drawn as 0 or 1."""
        found = super().dataset()
        return found if known_model(found.name) is not None else binarised(found)


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
    given = (0,) * options.context
    flow = None if config.flow in GAUSSIANS else with_gradients(config.flow, options.latents, config.model, given)
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
