"""What a sample of a posterior and the density of a given point cost, by each way there is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.results.variational import Direction, PosteriorTiming, Way
from flowbench.training.clock import BATCHES, measure, measuring, repeated, runner
from flowbench.training.objective import SecondsOf
from flowbench.transforms import MaskedAutoregressive
from flowbench.variational.posterior import Posterior

Work = Callable[[], object]


@torch.no_grad()
def time_posterior(posterior: Posterior, rows: Rows, batches: tuple[int, ...] = BATCHES) -> list[PosteriorTiming]:
    """Time a sample with its density, and the density of given points, at each batch size; the encoder is left out."""
    return [timing for batch in batches for timing in _time_batch(posterior, repeated(rows[: max(batches)], batch))]


@torch.no_grad()
def time_posterior_seconds(
    posterior: Posterior, rows: Rows, seconds_of: SecondsOf, batches: tuple[int, ...] = BATCHES
) -> float:
    """The seconds that `time_posterior` will take, by those of each piece of work."""
    first = rows[: max(batches)]
    every = (work for batch in batches for work in works(posterior, repeated(first, batch)).values())
    return sum(measuring(seconds_of(work)) for work in every)


def works(posterior: Posterior, rows: Tensor) -> dict[tuple[Direction, Way], Work]:
    """The pieces of work on rows (N, D): of a flow that has a slow direction, that by the textbook's passes, too."""
    encoded = posterior(rows)
    noise = torch.randn(len(rows), posterior.gaussian.latents, dtype=rows.dtype, device=rows.device)
    z, _ = posterior.draw(encoded, noise)
    flow = posterior.flow
    slow: Direction | None = None
    if flow is not None and _autoregressive(flow) and flow.dim > 1:
        slow = "sample" if flow.transform.sampling_passes > flow.transform.density_passes else "density"
    found: dict[tuple[Direction, Way], Work] = {
        ("sample", "substitution" if slow == "sample" else "one pass"): lambda: posterior.draw(encoded, noise),
        ("density", "substitution" if slow == "density" else "one pass"): lambda: posterior.log_prob(encoded, z),
    }
    if slow is not None and flow is not None:
        context = encoded[:, posterior.gaussian.parameters :]
        point, inverse = (noise, True) if slow == "sample" else (z, False)
        found[slow, "passes"] = lambda: by_passes(flow, context, point, inverse)
    return found


def by_passes(flow: Flow, context: Tensor, rows: Tensor, to_data: bool) -> tuple[Tensor, Tensor]:
    """The flow's direction of rows (N, K), given (N, C), its masked transforms inverted by the textbook's passes."""
    given = flow.given(context) if flow.given else None
    leaves = list(flow.transform.leaves())
    if to_data:
        leaves = [(leaf, not inverted) for leaf, inverted in reversed(leaves)]
    log_det = rows.new_zeros(len(rows))
    for leaf, inverted in leaves:
        also = (given,) if leaf.context and given is not None else ()
        if inverted and isinstance(leaf, MaskedAutoregressive):
            rows, term = leaf.inverse_by_passes(rows, *also)
        else:
            rows, term = (leaf.inverse if inverted else leaf)(rows, *also)
        log_det = log_det + term
    return rows, log_det


def _autoregressive(flow: Flow) -> bool:
    return any(isinstance(module, MaskedAutoregressive) for module in flow.modules())


def _time_batch(posterior: Posterior, rows: Tensor) -> list[PosteriorTiming]:
    found = []
    samples = measure({key: runner(work) for key, work in works(posterior, rows).items()})
    for (direction, way), sample in samples.items():
        q1, median, q3 = sample.quartiles(1e6 / len(rows))
        found.append(
            PosteriorTiming(
                direction=direction,
                way=way,
                batch=len(rows),
                us_per_row=median,
                us_per_row_q1=q1,
                us_per_row_q3=q3,
                runs=sample.runs,
            )
        )
    return found
