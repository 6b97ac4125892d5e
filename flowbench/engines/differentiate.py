"""Stages run one after the other by engines: with their pull-back, as one node of autograd's, or without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from flowbench.engines import engine_of
from flowbench.engines.interface import Engine, Moved, Stage
from flowbench.transforms.plan import AsWritten
from flowbench.transforms.transform import Pair


def run(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Pair:
    """The stages on rows x (N, D): (out (N, D), log_det (N,)), differentiable once in x and in all weights."""
    if torch.is_grad_enabled():
        weights = [weight for stage in stages for weight in stage.weights]
        return _Run.apply(stages, engine, x, *weights)  # type: ignore[no-untyped-call]
    # without gradients, what a stage keeps for its pull-back goes before the next
    x = x.t().contiguous()
    log_det = x.new_zeros(x.shape[1])
    for stage in stages:
        if isinstance(stage.plan, AsWritten):
            direction = stage.plan.inverse if stage.inverted else stage.plan.forward
            out, term = direction(x.t())
            x = out.t().contiguous()
        else:
            x, term = _move(stage, x, engine)[:2]
        log_det = log_det + term
    return x.t(), log_det


def _move(stage: Stage, x: Tensor, engine: Engine) -> Moved:
    own = engine_of(engine, stage)
    return own.inverse(stage, x) if stage.inverted else own.forward(stage, x)


def compose(stages: Sequence[Stage], x: Tensor, engine: Engine) -> Moved:
    """The stages on x (D, N), and the pull-back to x and to the weights of all of them, in their order."""
    log_det = x.new_zeros(x.shape[1])
    pulls = []
    for stage in stages:
        x, term, pull = _move(stage, x, engine)
        log_det += term
        pulls.append(pull)
    places = [slice(a, b) for a, b in pairwise(accumulate((len(stage.weights) for stage in stages), initial=0))]

    def pull_all(grad_x: Tensor, grad_log_det: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        for pull, place in zip(reversed(pulls), reversed(places), strict=True):
            grad_x = pull(grad_x, grad_log_det, gradients[place])
        return grad_x

    return x, log_det, pull_all


class _Run(Function):
    """``compose``, for autograd."""

    @staticmethod
    def forward(ctx: Any, stages: Sequence[Stage], engine: Engine, x: Tensor, *weights: Tensor) -> Pair:
        # the pull keeps what it needs itself; not the outputs, which are views: that would be a cycle. What it may
        # share memory with is saved too, so that autograd tells when that is changed before it is used
        out, log_det, ctx.pull = compose(stages, x.t().contiguous(), engine)
        ctx.save_for_backward(x, *weights)
        return out.t(), log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.empty_like(tensor) for tensor in ctx.saved_tensors[1:]]
        grad_x = ctx.pull(grad_out.t().contiguous(), grad_log_det.contiguous(), gradients)
        return None, None, grad_x.t(), *gradients
