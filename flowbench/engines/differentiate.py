"""Stages run one after the other by engines: with their pull-back, as one node of autograd's, or without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from flowbench.engines.eager.engine import moved
from flowbench.engines.interface import Density, Engine, Joined, Moved, Stage
from flowbench.transforms.plan import AsWritten
from flowbench.transforms.transform import Pair


def run(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Pair:
    """The stages on rows x (N, D): (out (N, D), log_det (N,)), differentiable once in x and in all weights."""
    if torch.is_grad_enabled():
        return _Run.apply(stages, engine, x, *_weights(stages))  # type: ignore[no-untyped-call]
    out, log_det = _lightly(stages, x.t(), engine)
    return out.t(), log_det


def density(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Tensor:
    """The log-density (N,) of rows x (N, D) whose image is standard normal, differentiable as ``run`` is."""
    if torch.is_grad_enabled():
        return _Density.apply(stages, engine, x, *_weights(stages))  # type: ignore[no-untyped-call]
    *before, last = stages
    if not before:
        return engine.log_prob(last, _laid_out(last, x.t()))
    u, log_det = _lightly(before, x.t(), engine)
    return engine.log_prob(last, _laid_out(last, u)) + log_det


def draw(stages: Sequence[Stage], noise: Tensor, engine: Engine) -> Pair:
    """Rows (N, D) of the random numbers (draws, N, D) of the last stage, and their log-densities (N,); no gradients."""
    with torch.no_grad():
        x, log_prob = engine.draw(stages[-1], noise.transpose(1, 2).contiguous())
        back = [stage._replace(inverted=not stage.inverted) for stage in reversed(stages[:-1])]
        x, log_det = _lightly(back, x, engine)
        return x.t(), log_prob - log_det


def descend(stages: Sequence[Stage], x: Tensor, engine: Engine, each: float, gradients: Sequence[Tensor]) -> Tensor:
    """As ``density``, and in ``gradients`` those of ``each`` times its sum, of all weights; without autograd."""
    with torch.no_grad():
        if len(stages) == 1:
            return engine.descend(stages[0], _laid_out(stages[0], x.t()), each, gradients)
        log_prob, pull = compose_density(stages, x.t(), engine)
        pull(torch.full_like(log_prob, each), gradients)
        return log_prob


def _weights(stages: Sequence[Stage]) -> list[Tensor]:
    return [weight for stage in stages for weight in stage.weights]


def _laid_out(stage: Stage, x: Tensor) -> Tensor:
    """Columns as rows of memory, where the stage wants them so."""
    return x if isinstance(stage.plan, Joined) else x.contiguous()


def _lightly(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Pair:
    """Out (D, N) and log_det (N,): what a stage keeps for its pull-back goes before the next."""
    log_det: Tensor | None = None
    for stage in stages:
        if isinstance(stage.plan, AsWritten):
            direction = stage.plan.inverse if stage.inverted else stage.plan.forward
            out, term = direction(x.t()) if stage.context is None else direction(x.t(), stage.context)
            x = out.t()
        else:
            x, term = engine.image(stage, _laid_out(stage, x))
        log_det = term if log_det is None else log_det + term
    return x, x.new_zeros(x.shape[1]) if log_det is None else log_det


def compose(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Moved:
    """The stages on x (D, N), and the pull-back to x and to the weights of all of them, in their order."""
    log_det = x.new_zeros(x.shape[1])
    pulls = []
    for stage in stages:
        x, term, pull = moved(engine, stage, _laid_out(stage, x))
        log_det += term
        pulls.append(pull)
    places = [slice(a, b) for a, b in pairwise(accumulate((len(stage.weights) for stage in stages), initial=0))]

    def pull_all(grad_x: Tensor, grad_log_det: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        for stage, pull, place in zip(reversed(stages), reversed(pulls), reversed(places), strict=True):
            grad_x = pull(_laid_out(stage, grad_x), grad_log_det, gradients[place])
        return grad_x

    return x, log_det, pull_all


def compose_density(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Density:
    """As ``compose``: the log-density (N,) of x (D, N) whose image is standard normal, and its pull-back."""
    *before, last = stages
    u, log_det, pull_before = compose(before, x, engine)
    log_prob, pull_last = engine.density(last, _laid_out(last, u))
    own = len(last.weights)

    def pull_all(gradient: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        first = len(gradients) - own
        return pull_before(pull_last(gradient, gradients[first:]), gradient, gradients[:first])

    return log_prob + log_det, pull_all


class _Run(Function):
    """``compose``, for autograd."""

    @staticmethod
    def forward(ctx: Any, stages: Sequence[Stage], engine: Engine, x: Tensor, *weights: Tensor) -> Pair:
        # the pull keeps what it needs itself; not the outputs, which are views: that would be a cycle. What it may
        # share memory with is saved too, so that autograd tells when that is changed before it is used
        out, log_det, ctx.pull = compose(stages, x.t(), engine)
        ctx.save_for_backward(x, *weights)
        return out.t(), log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.empty_like(tensor) for tensor in ctx.saved_tensors[1:]]
        grad_x = ctx.pull(grad_out.t(), grad_log_det.contiguous(), gradients)
        return None, None, grad_x.t(), *gradients


class _Density(Function):
    """``compose_density``, for autograd."""

    @staticmethod
    def forward(ctx: Any, stages: Sequence[Stage], engine: Engine, x: Tensor, *weights: Tensor) -> Tensor:
        log_prob, ctx.pull = compose_density(stages, x.t(), engine)
        ctx.save_for_backward(x, *weights)
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.empty_like(tensor) for tensor in ctx.saved_tensors[1:]]
        return None, None, ctx.pull(gradient.contiguous(), gradients).t(), *gradients
