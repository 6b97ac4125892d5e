"""The gradient's norm, its bound, and Adam in one compiled call a thread; torch needs a dozen calls and more passes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines.interface import BETAS
from flowbench.engines.numba.chain import crew
from flowbench.engines.numba.chain.found import ALL, integers, numbers
from flowbench.engines.numba.chain.gate import new_gate, wait
from flowbench.engines.numba.elementary import like
from flowbench.engines.numba.vectors import jit
from flowbench.tuning import ADAM_WORK


def _square_of(gradient, runs):
    total = 0.0
    for start, stop in runs:
        part, found = gradient[start:stop], like(0, gradient[0])
        for n in range(len(part)):
            found += part[n] * part[n]
        total += found
    return total


_square_of = jit(_square_of, reorder_sums=True)


@jit
def _descend(flat, gradient, moments, run, factors):
    """θ ← θ − lr·m̂/(√v̂ + ε) (Kingma and Ba 2015), with coupled L2, of a run of weights."""
    start, stop = run
    weights, slopes = flat[start:stop], gradient[start:stop]
    means, squares = moments[0][start:stop], moments[1][start:stop]
    scale, decay, keep, keep_square, rate, root, epsilon = factors
    one = like(1, scale)
    for n in range(len(weights)):
        slope = slopes[n] * scale + decay * weights[n]
        means[n] = keep * means[n] + (one - keep) * slope
        squares[n] = keep_square * squares[n] + (one - keep_square) * slope * slope
        weights[n] -= rate * means[n] / (np.sqrt(squares[n]) * root + epsilon)


class _Order(NamedTuple):
    """What a step is told: addresses, and how many there are."""

    loss: int
    weights: int
    gradient: int
    means: int
    squares: int
    # one number each, as `training.step` keeps them
    steps: int
    norms: int
    stopped: int
    runs: int
    size: int
    """Of the weights, in numbers."""
    # of the threads: where in the runs each begins, and its sum of squares
    cuts: int
    sums: int
    threads: int
    gate: int
    options: int
    """The rate, the bound of the norm, ε and the decay."""


@jit
def _order_at(address):
    at = integers(address, 15)
    return _Order(
        at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9], at[10], at[11], at[12], at[13], at[14]
    )


def _update(address, thread, zero):
    """A step, by one of the threads."""
    order = _order_at(address)
    loss, norms, single = numbers(order.loss, 1, zero), numbers(order.norms, 1, zero), np.float32(0)
    steps, stopped = numbers(order.steps, 1, single), numbers(order.stopped, 1, single)
    sums, cuts = numbers(order.sums, order.threads, 0.0), integers(order.cuts, ALL)
    flat, gradient = numbers(order.weights, order.size, zero), numbers(order.gradient, order.size, zero)
    moments = numbers(order.means, order.size, zero), numbers(order.squares, order.size, zero)
    options, begin, end = numbers(order.options, 4, 0.0), cuts[thread], cuts[thread + 1]
    own = integers(order.runs, ALL)[2 * begin : 2 * end].reshape((end - begin, 2))
    rate, clip, epsilon, decay = options[0], options[1], options[2], options[3]
    sums[thread] = _square_of(gradient, own)
    number, before, ahead = steps[0] + 1, stopped[0], loss[0]
    wait(order.gate, order.threads)
    norm = math.sqrt(sums.sum())
    goes_on = before == 0 and math.isfinite(ahead) and math.isfinite(norm)
    if goes_on:
        scale = min(1.0, clip / norm) if norm > 0 else 1.0
        keep, keep_square = BETAS
        step, root = rate / (1 - keep**number), 1 / math.sqrt(1 - keep_square**number)
        factors = (
            like(scale, zero),
            like(decay, zero),
            like(keep, zero),
            like(keep_square, zero),
            like(step, zero),
            like(root, zero),
            like(epsilon, zero),
        )
        for index in range(len(own)):
            _descend(flat, gradient, moments, own[index], factors)
    if thread == 0:
        norms[0] += norm
        loss[0] = ahead + like(norm * 0, zero)  # a norm that is not finite shows in it
        if goes_on:
            steps[0] = number
        else:
            stopped[0] = 1


def update(
    flat: Tensor, state: Mapping[str, Tensor], options: TrainingOptions, runs: Sequence[tuple[int, int]]
) -> Callable[[Tensor, float], None]:
    """What takes a step from a loss () at a rate; only weights in ``runs`` (start, stop) ever have a gradient.

    ``state`` is that of `training.step.Descent`.
    """
    assert flat.grad is not None
    dtype = crew.TYPES[flat.dtype]
    held = [flat, flat.grad, *(state[name] for name in ("exp_avg", "exp_avg_sq", "step", "norms", "stopped"))]
    parts = np.array(runs, np.int64).reshape(-1, 2)
    sizes = np.cumsum(parts[:, 1] - parts[:, 0])
    clip_norm = math.inf if options.clip_norm is None else options.clip_norm
    given = np.array([0.0, clip_norm, options.epsilon, options.weight_decay])

    @functools.cache
    def shared(threads: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        cuts = np.searchsorted(sizes, np.arange(threads) * sizes[-1] / threads)
        return np.append(cuts, len(parts)), np.zeros(threads), new_gate()

    def step(loss: Tensor, rate: float) -> None:
        threads = crew.size(len(parts), int(sizes[-1]) // ADAM_WORK)
        cuts, sums, gate = shared(threads)
        given[0] = rate
        addresses = [tensor.data_ptr() for tensor in (loss, *held)]
        places = parts.ctypes.data, flat.numel(), cuts.ctypes.data, sums.ctypes.data
        order = np.array((*addresses, *places, threads, gate.ctypes.data, given.ctypes.data), np.int64)
        crew.run(_update, order, threads, dtype)

    return step
