"""A posterior held against its own claims: that what it says of a draw is its density there."""

from __future__ import annotations

import copy

import torch

from flowbench.data.rows import Rows
from flowbench.results.record import Check
from flowbench.transforms import standard_normal
from flowbench.variational.posterior import Posterior

CHECKED_ROWS = 64


def densities(posterior: Posterior, rows: Rows) -> dict[str, Check]:
    """Of a posterior given test ``rows`` (N, D): log q(z) by both directions, and log|det| against a Jacobian.

    Mathematics is checked in float64 on the CPU, where an error is an error of the formula and not of rounding.
    """
    exact = copy.deepcopy(posterior).cpu().double().eval().requires_grad_(False)
    encoded = exact(rows[:CHECKED_ROWS].cpu().double())
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(encoded), posterior.gaussian.latents, dtype=torch.float64, generator=generator)
    z, log_prob = exact.draw(encoded, noise)
    error = (exact.log_prob(encoded, z) - log_prob).abs() / (1 + log_prob.abs())
    what = "max |log q(z) of a draw - log q(z) of the point| / (1 + |log q(z)|) in float64"
    return {
        "both_ways": Check.of(float(error.max()), 1e-6, what),
        "log_det": Check.of(*_log_det_error(exact, encoded[:3], noise[:3])),
    }


def _log_det_error(posterior: Posterior, encoded: torch.Tensor, noise: torch.Tensor) -> tuple[float, float, str]:
    """Of log q(z), against the Jacobian of z by the noise, by autograd."""
    worst = 0.0
    for row in range(len(noise)):
        own, said = noise[row : row + 1], encoded[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(lambda u: posterior.draw(said, u)[0][0], own)[:, 0]  # noqa: B023
        expected = standard_normal(own).sum() - torch.linalg.slogdet(jacobian).logabsdet
        found = posterior.draw(said, own)[1][0]
        worst = max(worst, float((found - expected).abs() / (1 + expected.abs())))
    return worst, 1e-6, "max |log q(z) - (log N(u) - log|det dz/du|)| / (1 + ...) in float64, the Jacobian by autograd"
