"""The engine for CPUs: torch's, with what compiled kernels do faster taken over by them."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines.eager.engine import TorchEngine
from flowbench.engines.eager.substitution import Solved, Substitution
from flowbench.engines.interface import Density, Held, Joined, Moved, Stage, Update
from flowbench.engines.numba import adam, mixture, pointwise, spline, spline_gradient, substitution
from flowbench.engines.numba.batch_norm import batch_norm, batch_norm_by
from flowbench.engines.numba.chain.build import knows
from flowbench.engines.numba.chain.program import Program
from flowbench.engines.numba.steps import AffineInverse, MixtureDraw, SplineInverse, Step
from flowbench.transforms.activation import RELU, TANH, Activation
from flowbench.transforms.affine import Affine
from flowbench.transforms.mixture import GaussianMixture
from flowbench.transforms.plan import CouplingPlan, MaskedPlan
from flowbench.transforms.spline import RationalQuadraticSpline
from flowbench.transforms.univariate import Univariate
from flowbench.tuning import LANES, POINTWISE, THREADED, WALK_WORK, numba_block


class NumbaEngine(TorchEngine):
    """Torch's, with the maps and the relu or tanh units that kernels know in these, in single and double precision."""

    kernels = Affine, RationalQuadraticSpline, GaussianMixture
    normalise = staticmethod(batch_norm)
    normalise_by = staticmethod(batch_norm_by)

    def __init__(self, walk_work: int = WALK_WORK) -> None:
        self._walk_work = walk_work

    def try_out(self) -> None:
        """Compile and run a kernel; raises what stands in the way of that."""
        values = torch.tensor([[-1.0, 2.0]])
        pointwise.finish(values.numpy(), torch.ones(1).numpy(), True, False)
        if values.tolist() != [[0.0, 3.0]]:
            raise RuntimeError("the kernels do not do what they should")

    def updater(
        self, flat: Tensor, state: Mapping[str, Tensor], options: TrainingOptions, runs: Sequence[tuple[int, int]]
    ) -> Update | None:
        """See `Engine.updater`."""
        return adam.update(flat, state, options, runs)

    # --- chains whole in one call -------------------------------------------------------------------------------------

    def join(self, stages: Sequence[Stage], dim: int) -> list[Stage]:
        """Those that chains know, where there is a network among them, as one."""
        found: list[Stage] = []
        for known, run in itertools.groupby(stages, knows):
            together = tuple(run)
            if known and any(isinstance(stage.plan, MaskedPlan | CouplingPlan) for stage in together):
                weights = [weight for stage in together for weight in stage.weights]
                found.append(Stage(Joined(together, Program(together, dim)), weights, None))
            else:
                found += together
        return found

    def image(self, stage: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `TorchEngine.image`."""
        return stage.plan.how.move(x) if isinstance(stage.plan, Joined) else super().image(stage, x)

    def log_prob(self, stage: Stage, x: Tensor) -> Tensor:
        """See `TorchEngine.log_prob`."""
        return stage.plan.how.log_density(x) if isinstance(stage.plan, Joined) else super().log_prob(stage, x)

    def descend(self, stage: Stage, x: Tensor, each: float, gradients: Sequence[Tensor]) -> Tensor:
        """See `TorchEngine.descend`."""
        if isinstance(stage.plan, Joined):
            return stage.plan.how.descend(x, each, gradients)
        return super().descend(stage, x, each, gradients)

    def held(self, stage: Stage, dim: int, rows: int) -> Held:
        """See `TorchEngine.held`."""
        return stage.plan.how.held(rows) if isinstance(stage.plan, Joined) else super().held(stage, dim, rows)

    def forward(self, stage: Stage, x: Tensor) -> Moved:
        """See `TorchEngine.forward`."""
        return stage.plan.how.forward(x) if isinstance(stage.plan, Joined) else super().forward(stage, x)

    def density(self, stage: Stage, x: Tensor) -> Density:
        """See `TorchEngine.density`."""
        return stage.plan.how.density(x) if isinstance(stage.plan, Joined) else super().density(stage, x)

    # --- substitution -------------------------------------------------------------------------------------------------

    def substitute(self, plan: MaskedPlan, stage: Stage, u: Tensor) -> Solved:
        """See `TorchEngine.substitute`: blocks in compiled calls; a small network is one block."""
        way = _inverse(plan.univariate)
        if way is None or not _has_steps(plan):
            return super().substitute(plan, stage, u)
        return self._in_steps(plan, stage, way, u[:, None])

    def substitute_draws(self, plan: MaskedPlan, stage: Stage, noise: Tensor) -> Solved:
        """See `TorchEngine.substitute_draws`."""
        if type(plan.univariate) is not GaussianMixture or not _has_steps(plan):
            return super().substitute_draws(plan, stage, noise)
        return self._in_steps(plan, stage, MixtureDraw(plan.univariate.components), noise.transpose(0, 1).contiguous())

    def _in_steps(self, plan: MaskedPlan, stage: Stage, way: Step, given: Tensor) -> Solved:
        """The columns one after the other, from numbers (D, draws, N)."""
        x = torch.empty_like(given[:, 0])
        values, log_det = _units(plan, stage, x), x.new_empty(x.shape[1])
        sums = torch.empty_like(values[plan.hidden if plan.network.residual else slice(0)])
        arrays = values.numpy(), sums.numpy(), x.numpy(), log_det.numpy()
        network, numbers = _network(plan, stage), given.numpy()

        def run(start: int, stop: int) -> None:
            substitution.inverse_steps(numbers, network, way, (start, stop), *arrays)

        if self._is_small(plan, x):
            run(0, plan.steps)
        else:
            Substitution(plan, stage.weights[0], values).invert(numba_block(plan.dim), run)
        return Solved(x, log_det, values, None)

    def pull_substitution(self, plan: MaskedPlan, stage: Stage, solved: Solved, cotangents: Tensor, da: Tensor) -> None:
        """See `TorchEngine.pull_substitution`."""
        if not _has_steps(plan):
            return super().pull_substitution(plan, stage, solved, cotangents, da)
        network = _network(plan, stage)
        factors, values, units = da.contiguous().numpy(), solved.values.numpy(), cotangents.numpy()

        def run(start: int, stop: int) -> None:
            substitution.gradient_steps(factors, values, network, (start, stop), units)

        Substitution(plan, stage.weights[0], cotangents).pull(numba_block(plan.dim), run)

    def _is_small(self, plan: MaskedPlan, rows: Tensor) -> bool:
        return plan.network.packing.size * rows.shape[1] <= self._walk_work

    # --- what is done to each number between products -----------------------------------------------------------------

    def finish(self, values: Tensor, bias: Tensor, activation: Activation | None) -> Tensor | None:
        """See `TorchEngine.finish`."""
        if values.numel() > POINTWISE or activation not in (RELU, TANH, None):
            return super().finish(values, bias, activation)
        pointwise.finish(values.numpy(), bias.numpy(), activation is not None, activation == TANH)
        return None

    def pull_activation(self, cotangent: Tensor, h: Tensor, slope: Tensor | None, activation: Activation) -> None:
        """See `TorchEngine.pull_activation`."""
        if cotangent.numel() > POINTWISE or slope is not None or activation not in (RELU, TANH):
            super().pull_activation(cotangent, h, slope, activation)
        else:
            pointwise.slope(cotangent.numpy(), h.numpy(), activation == TANH)

    def move(self, univariate: Univariate, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `TorchEngine.move`."""
        if type(univariate) is RationalQuadraticSpline:
            return _spline(spline.forward, univariate, x, theta)
        if x.numel() > POINTWISE or type(univariate) is not Affine:
            return super().move(univariate, x, theta)
        u, precision = torch.empty_like(x), torch.empty_like(x)
        pointwise.move(x.numpy(), theta.numpy(), _affine(univariate), u.numpy(), precision.numpy())
        return u, precision

    def move_back(self, univariate: Univariate, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `TorchEngine.move_back`."""
        if type(univariate) is not RationalQuadraticSpline:
            return super().move_back(univariate, u, theta)
        return _spline(spline.inverse, univariate, u, theta)

    def pull_move(
        self,
        univariate: Univariate,
        x: Tensor,
        theta: Tensor,
        image: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """See `TorchEngine.pull_move`."""
        if type(univariate) is RationalQuadraticSpline:
            return _pull_spline(univariate, x, theta, gradients)
        if x.numel() > POINTWISE or type(univariate) is not Affine:
            return super().pull_move(univariate, x, theta, image, gradients)
        grad_x, grad_theta = torch.empty_like(x), torch.empty_like(theta)
        known, above = ((a.numpy(), b.numpy()) for a, b in (image, gradients))
        pointwise.pull_move(known, above, _affine(univariate), grad_x.numpy(), grad_theta.numpy())
        return grad_x, grad_theta

    def log_density(self, univariate: Univariate, x: Tensor, theta: Tensor) -> Tensor:
        """See `TorchEngine.log_density`."""
        if type(univariate) is not GaussianMixture:
            return super().log_density(univariate, x, theta)
        found = torch.empty_like(x)
        rows, parameters, out = x.numpy(), theta.numpy(), found.numpy()
        _over_columns(lambda columns: mixture.density(rows, parameters, columns, out), len(x), theta.numel())
        return found.sum(0)

    def pull_log_density(
        self, univariate: Univariate, x: Tensor, theta: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `TorchEngine.pull_log_density`."""
        if type(univariate) is not GaussianMixture:
            return super().pull_log_density(univariate, x, theta, gradient)
        grad_x, grad_theta = torch.empty_like(x), torch.empty_like(theta)
        known, out = (x.numpy(), theta.numpy(), gradient.contiguous().numpy()), (grad_x.numpy(), grad_theta.numpy())
        _over_columns(lambda columns: mixture.pull_density(*known, columns, *out), len(x), theta.numel())
        return grad_x, grad_theta


def _over_columns(kernel: Callable[[tuple[int, int]], object], dim: int, work: int) -> None:
    """A kernel that does columns apart from each other, on as many threads as torch has where the work is large."""
    threads = min(torch.get_num_threads(), dim) if work > THREADED else 1
    parts = [(dim * part // threads, dim * (part + 1) // threads) for part in range(threads)]
    if threads == 1:
        kernel(parts[0])
    else:
        list(_pool(os.getpid(), threads).map(kernel, parts))


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of a process: a fork leaves them behind."""
    return ThreadPoolExecutor(threads)


def _spline(
    kernel: Callable[..., object], univariate: RationalQuadraticSpline, place: Tensor, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """A direction of splines at places (D, N): the image and the log-derivative."""
    image, log_slope = torch.empty_like(place), torch.empty_like(place)
    known, out = (place.numpy(), theta.numpy(), univariate.bound), (image.numpy(), log_slope.numpy())
    _over_columns(lambda columns: kernel(*known, columns, *out), len(place), theta.numel())
    return image, log_slope


def _pull_spline(
    univariate: RationalQuadraticSpline, x: Tensor, theta: Tensor, gradients: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """See `TorchEngine.pull_move`."""
    grad_x, grad_theta = torch.empty_like(x), torch.empty_like(theta)
    above = gradients[0].contiguous().numpy(), gradients[1].contiguous().numpy()
    known, out = (x.numpy(), theta.numpy(), univariate.bound, above), (grad_x.numpy(), grad_theta.numpy())
    _over_columns(lambda columns: spline_gradient.pull(*known, columns, *out), len(x), theta.numel())
    return grad_x, grad_theta


def _has_steps(plan: MaskedPlan) -> bool:
    """Whether kernels take the steps of substitution of its network: layers, in blocks or not, of relu or tanh."""
    return not plan.network.dropout and plan.network.activation in (RELU, TANH)


def _inverse(univariate: Univariate) -> Step | None:
    """The map's step of substitution in kernels, if they know it."""
    if type(univariate) is RationalQuadraticSpline:
        return SplineInverse(univariate.bound)
    return AffineInverse(*_affine(univariate)) if type(univariate) is Affine else None


def _network(plan: MaskedPlan, stage: Stage) -> tuple[Any, ...]:
    """What kernels are told of a network: (flat, starts, biases, visible, is_tanh, residual)."""
    starts, biases = stage.constants.starts, stage.constants.biases
    flat = stage.weights[0].detach().numpy()
    network = plan.network
    return flat, starts.numpy(), biases.numpy(), plan.visible, network.activation == TANH, network.residual


def _affine(univariate: Univariate) -> tuple[float, float]:
    """What kernels are told of an affine map: (gain, bound), a bound of 0 for none."""
    affine = cast("Affine", univariate)
    return affine.gain, affine.bound or 0.0


def _units(plan: MaskedPlan, stage: Stage, rows: Tensor) -> Tensor:
    """A place for all units (units, N), whose rows vectors divide; a context is there."""
    values = rows.new_empty(plan.units, -(-rows.shape[1] // LANES) * LANES)
    if stage.context is not None:
        context = values[: plan.context]
        context[:, : rows.shape[1]] = stage.context.detach().t()
        context[:, rows.shape[1] :] = 0  # what lies there is gone through, too
    return values
