"""The gradient's norm, its bound, and Adam in one compiled call a thread; torch needs a dozen calls and more passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines.interface import BETAS
from flowbench.engines.numba.chain import crew
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
def _descend(flat, gradient, moments, run, numbers):
    """θ ← θ − lr·m̂/(√v̂ + ε) (Kingma and Ba 2015), with coupled L2, of a run of weights."""
    start, stop = run
    weights, slopes = flat[start:stop], gradient[start:stop]
    means, squares = moments[0][start:stop], moments[1][start:stop]
    scale, decay, keep, keep_square, rate, root, epsilon = numbers
    one = like(1, scale)
    for n in range(len(weights)):
        slope = slopes[n] * scale + decay * weights[n]
        means[n] = keep * means[n] + (one - keep) * slope
        squares[n] = keep_square * squares[n] + (one - keep_square) * slope * slope
        weights[n] -= rate * means[n] / (np.sqrt(squares[n]) * root + epsilon)


@jit
def _update(loss, flat, gradient, moments, counts, options, runs, cuts, sums, thread, gate):
    """A step, by one of the threads. ``counts`` are (steps,), (norms,), (stopped,), as `training.step` keeps them."""
    steps, norms, stopped = counts
    rate, clip, epsilon, decay = options
    own, threads, zero = runs[cuts[thread] : cuts[thread + 1]], len(cuts) - 1, like(0, flat[0])
    sums[thread] = _square_of(gradient, own)
    number, before, ahead = steps[0] + 1, stopped[0], loss[0]
    wait(gate, threads)
    norm = math.sqrt(sums.sum())
    goes_on = before == 0 and math.isfinite(ahead) and math.isfinite(norm)
    if goes_on:
        scale = min(1.0, clip / norm) if norm > 0 else 1.0
        keep, keep_square = BETAS
        step, root = rate / (1 - keep**number), 1 / math.sqrt(1 - keep_square**number)
        numbers = (
            like(scale, zero),
            like(decay, zero),
            like(keep, zero),
            like(keep_square, zero),
            like(step, zero),
            like(root, zero),
            like(epsilon, zero),
        )
        for index in range(len(own)):
            _descend(flat, gradient, moments, own[index], numbers)
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
    arrays = flat.detach().numpy(), flat.grad.numpy()
    moments = state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()
    counts = tuple(state[name].view(1).numpy() for name in ("step", "norms", "stopped"))
    clip_norm = math.inf if options.clip_norm is None else options.clip_norm
    rest = float(clip_norm), options.epsilon, options.weight_decay
    parts = np.array(runs, np.int64).reshape(-1, 2)
    sizes = np.cumsum(parts[:, 1] - parts[:, 0])
    kept = {}

    def step(loss: Tensor, rate: float) -> None:
        threads = crew.size(len(parts), int(sizes[-1]) // ADAM_WORK)
        if threads not in kept:
            cuts = np.searchsorted(sizes, np.arange(threads) * sizes[-1] / threads)
            kept[threads] = np.append(cuts, len(parts)), np.zeros(threads), new_gate()
        cuts, sums, gate = kept[threads]
        found = loss.view(1).numpy()
        known = found, *arrays, moments, counts, (rate, *rest), parts, cuts, sums

        def part(thread: int) -> None:
            _update(*known, thread, gate.ctypes.data)

        try:
            crew.run(part, threads)
        except BaseException:
            kept.clear()  # somebody may still wait at the gate
            raise

    return step
