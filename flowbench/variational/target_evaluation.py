"""What an approximation reached of a target: its bound, log Z by importance sampling, divergences and moments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowbench.data.rows import Rows
from flowbench.results import statistics as stats
from flowbench.results.record import Check, Estimate
from flowbench.seeds import stream
from flowbench.training.recording import estimate
from flowbench.variational.reverse_kl import EXACT, ROWS, TargetModel
from flowbench.variational.targets.target import Target

Float64 = NDArray[np.float64]

ABOVE = 1e-3
"""Nats that an estimate may be above log Z beyond four standard errors: what single precision leaves."""

FEW = 0.05
"""The share of effective draws below which an estimate of log Z is doubted, and of one draw above which it is."""

SHORT = 0.01
"""Nats below log Z, beyond four standard errors, from which on an estimate by importance sampling is doubted."""

MISSED, TIMES = 0.5, 3.0
"""A forward divergence that is more nats and more times the reverse one means that something of p is missed."""


@dataclass(frozen=True)
class Exact:
    """Of M exact draws of p log p − log q (M,), and their own standard deviation (D,)."""

    log_ratios: Float64
    sd: Float64


@dataclass(frozen=True)
class TargetEvaluation:
    """Of N draws of q log p̃ − log q (N,), and their mean and standard deviation (D,); of exact ones, if there are."""

    log_weights: Float64
    mean: Float64
    sd: Float64
    exact: Exact | None

    @cached_property
    def log_z(self) -> Estimate:
        """log (1/N) Σ w; its error is that of the mean weight, relative to it."""
        largest = float(self.log_weights.max())
        with np.errstate(invalid="ignore"):  # of what is not finite
            mean, stderr = stats.mean_and_stderr(np.exp(self.log_weights - largest))
        return Estimate(mean=largest + math.log(mean), stderr=stderr / mean) if mean > 0 else Estimate(mean=math.nan)

    @cached_property
    def shares(self) -> Float64:
        """Of the draws' weights (N,); they add up to one."""
        with np.errstate(invalid="ignore"):
            weights = np.exp(self.log_weights - self.log_weights.max())
            return np.asarray(weights / weights.sum())

    @property
    def ess(self) -> float:
        """(Σ w)² / Σ w²."""
        return float(1 / (self.shares**2).sum())


@torch.no_grad()
def evaluate(model: TargetModel, noise: Rows) -> TargetEvaluation:
    """The figures of an approximation, by rows of noise (N, D), some at a time."""
    log_weights, first, second = [], torch.zeros(()), torch.zeros(())
    for rows in noise.split(ROWS):
        z, log_p, log_q = model.terms(rows)
        log_weights.append(log_p.cpu().double() - log_q.cpu().double())
        z = z.cpu().double()
        first, second = first + z.sum(0), second + z.square().sum(0)
    mean = first / len(noise)
    sd = (second / len(noise) - mean.square()).clamp(min=0).sqrt()
    return TargetEvaluation(torch.cat(log_weights).cpu().numpy(), mean.numpy(), sd.numpy(), _exact(model, noise))


def _exact(model: TargetModel, noise: Rows) -> Exact | None:
    """Of exact draws, the same for all approximations; None where there are none, or log Z is unknown."""
    log_z, generator = model.target.log_z, torch.Generator(noise.device).manual_seed(stream(0, "exact draws"))
    drawn = model.target.draw(EXACT, generator)
    if drawn is None or log_z is None:
        return None
    found = torch.cat([(model.target(z) - model.log_prob(z)).cpu().double() for z in drawn.split(ROWS)])
    return Exact((found - log_z).cpu().numpy(), drawn.cpu().double().std(0).numpy())


def figures(found: TargetEvaluation, target: Target) -> dict[str, Any]:
    """Those of `TargetFit` that an evaluation gives."""
    moments, log_z, bound = target.moments, target.log_z, estimate(found.log_weights)
    off = np.abs(found.mean - moments.mean.numpy()) / moments.sd.numpy()
    ratio = found.sd / moments.sd.numpy()
    with np.errstate(divide="ignore"):  # a draw that never moves
        mean_at, sd_at = int(off.argmax()), int(np.abs(np.log(ratio)).argmax())
    kl = None if log_z is None or bound.mean is None else Estimate(mean=log_z - bound.mean, stderr=bound.stderr)
    exact = found.exact
    return {
        "draws": len(found.log_weights),
        "bound_nats": bound,
        "log_z_nats": found.log_z,
        "true_log_z_nats": log_z,
        "kl_nats": kl,
        "ess": found.ess,
        "largest_weight": float(found.shares.max()),
        "worst_mean_in_sds": float(off[mean_at]),
        "worst_mean_coordinate": mean_at,
        "worst_sd_ratio": float(ratio[sd_at]),
        "worst_sd_coordinate": sd_at,
        "exact_draws": exact and len(exact.log_ratios),
        "forward_kl_nats": exact and estimate(exact.log_ratios),
        "exact_sd_ratio": exact and float(exact.sd[sd_at] / moments.sd[sd_at]),
    }


def against_truth(found: TargetEvaluation, log_z: float | None) -> dict[str, Check]:
    """That all draws have a weight; and that neither the bound nor the mean weight is above the true log Z."""
    lost = float(np.count_nonzero(~np.isfinite(found.log_weights)))
    held = {"not_finite": Check.of(lost, 0.0, "draws without a finite weight")}
    if log_z is not None:
        for name, each, what in (
            ("below_truth", estimate(found.log_weights), "the bound"),
            ("log_z", found.log_z, "log Z by importance sampling"),
        ):
            held[name] = Check.of(_off(each, -4) - log_z, ABOVE, f"{what} - log Z - 4 standard errors")
    return held


def doubts_of(found: TargetEvaluation, log_z: float | None) -> tuple[str, ...]:
    """What an approximation, and its estimate of log Z, should be doubted for."""
    draws, largest, doubts = len(found.log_weights), float(found.shares.max()), []
    if found.ess < FEW * draws or largest > FEW:
        said = f"of {draws:,} draws {found.ess:,.0f} count, and the heaviest has {largest:.1%} of all weight"
        doubts.append(f"{said}: log Z hangs on a few of them")
    if log_z is None:
        return tuple(doubts)
    short = log_z - _off(found.log_z, 4)
    if short > SHORT:
        doubts.append(f"the draws stand for {math.exp(-short):.1%} of the target's mass: the rest is missed")
    if found.exact is not None:
        forward, reverse = estimate(found.exact.log_ratios), log_z - float(found.log_weights.mean())
        if not _off(forward, -2) <= max(MISSED, TIMES * reverse):  # not finite, too
            said = f"KL(p || q) is {_off(forward, 0):.3g} nats and KL(q || p) {reverse:.3g}"
            doubts.append(f"{said}: something of the target is missed")
    return tuple(doubts)


def _off(each: Estimate, errors: float) -> float:
    """A mean and so many of its standard errors; NaN where it is not finite."""
    return math.nan if each.mean is None else each.mean + errors * (each.stderr or 0.0)
