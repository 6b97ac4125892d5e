"""Small latent variable models, and a record of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowbench.flows import build, load
from flowbench.results.variational import PosteriorRecord
from flowbench.training.carry_out import carry_out_by
from flowbench.training.order import How
from flowbench.variational.bound import LatentModel
from flowbench.variational.gaussians import Diagonal, Full, Gaussian
from flowbench.variational.likelihoods import Bernoulli
from flowbench.variational.networks import mlp
from flowbench.variational.options import GAUSSIANS
from flowbench.variational.order import PosteriorOrder
from flowbench.variational.posterior import Posterior
from flowbench.variational.run import PosteriorCourse

POSTERIORS = ("diagonal", "full-gaussian", "iaf", "maf", "realnvp", "nsf-ar", "nsf-c")

CONTEXT = 3

QUICK = {"max_steps": 30, "importance_samples": 8, "transforms": 1, "hidden": [8]}


def posterior(name: str, latents: int = 4, columns: int = 5, **settings: Any) -> Posterior:
    """A posterior whose weights were shaken, so that nothing is near the identity."""
    torch.manual_seed(0)
    gaussian: Gaussian = (Full if name == "full-gaussian" else Diagonal)(latents)
    flow, outputs = None, gaussian.parameters
    if name not in GAUSSIANS:
        bare = {"batch_norm": False} if "batch_norm" in load(name).Options.model_fields else {}
        options = load(name).Options(
            **{"transforms": 2, "hidden": (7,) if "nsf" not in name else (7, 7, 7)} | bare | settings
        )
        flow, outputs = build(name, latents, options, (0,) * CONTEXT), outputs + CONTEXT
    found = Posterior(mlp(columns, (6,), outputs), gaussian, flow)
    with torch.no_grad():
        for parameter in (flow or nn.Module()).parameters():
            parameter += 0.1 * torch.randn_like(parameter) * (parameter != 0)
    return found


def model(name: str, latents: int = 4, columns: int = 5, **options: Any) -> LatentModel:
    """A variational autoencoder with it."""
    torch.manual_seed(0)
    return LatentModel(Bernoulli(mlp(latents, (6,), columns)), posterior(name, latents, columns), latents, **options)


def trained(
    name: str, folder: Path, data: str = "digits", seed: int = 0, how: How | None = None, **settings: Any
) -> PosteriorRecord:
    """The record of a short training."""
    order = PosteriorOrder(flow=name, data=data, seed=seed, device="cpu", settings=quick_for(name) | settings)
    return carry_out_by(PosteriorCourse, order, folder, how or How())


def quick_for(name: str) -> dict[str, Any]:
    """Settings of a short training that the posterior has."""
    return {key: value for key, value in QUICK.items() if name not in GAUSSIANS or key not in ("transforms", "hidden")}
