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
from flowbench.variational.networks import ConvolutionalDecoder, ConvolutionalEncoder, begun_small, is_square, mlp
from flowbench.variational.options import GAUSSIANS, LatentOptions, PosteriorConfig
from flowbench.variational.pixels import SETS, binarised
from flowbench.variational.posterior import Posterior


class PosteriorOrder(ApproximationOrder):
    """A posterior as it was asked for; of the fields for tables none is used."""

    def config(self) -> PosteriorConfig:
        """All that decides the run's numbers; see `Order.config`."""
        flow = self.approximation
        if flow not in GAUSSIANS and not conditional(flows.load(flow)):
            raise UsageError(f"{flow} cannot be conditioned, so it is no posterior", f"there are: {', '.join(ABLE)}")
        data = plugins.name_of("datasets", self.data)
        if is_path(data):
            raise UsageError(f"{data} is no set of pictures, nor a known latent model", f"there are: {SETS}")
        packaged = tables_of("posterior", self.recipe, data=data, flow=flow)
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


def build(config: PosteriorConfig, data: str, dim: int) -> LatentModel:
    """The model of a configuration for rows of ``dim`` columns, its weights drawn from torch's generator.

    Raises:
        UsageError: the flow is no posterior, or what it is to be does not suit the rows.
    """
    options, known = config.latent, known_model(data)
    if known is not None and known.loadings.shape[1] != options.latents:
        raise UsageError(f"{data} has {known.loadings.shape[1]} latents, not {options.latents}")
    if options.networks == "resnet" and not is_square(dim):
        raise UsageError(f"rows of {dim} columns are no square pictures", "--set networks=mlp takes any rows")
    given = (0,) * options.context
    flow = None if config.flow in GAUSSIANS else with_gradients(config.flow, options.latents, config.model, given)
    gaussian: Gaussian = (Full if config.flow == "full-gaussian" else Diagonal)(options.latents)
    outputs = gaussian.parameters + (0 if flow is None else options.context)
    posterior = Posterior(encoder_of(options, dim, outputs), gaussian, flow)
    likelihood: Likelihood = known or Bernoulli(decoder_of(options, dim))
    return LatentModel(likelihood, posterior, options.latents, options.kl_warmup_steps, options.free_bits)


def encoder_of(options: LatentOptions, dim: int, outputs: int) -> nn.Module:
    """Of rows of ``dim`` columns; it begins near zero."""
    if options.networks == "resnet":
        return ConvolutionalEncoder(dim, options.encoder, options.units, outputs)
    return begun_small(mlp(dim, options.encoder, outputs))


def decoder_of(options: LatentOptions, dim: int) -> nn.Module:
    """Of latents, to a logit of each column: the encoder's widths the other way round."""
    if options.networks == "resnet":
        return ConvolutionalDecoder(options.latents, options.units, options.encoder, dim)
    return mlp(options.latents, options.encoder[::-1], dim)
