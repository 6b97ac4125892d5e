"""How many numbers a stage holds in a step of training, from its plan."""

from __future__ import annotations

from flowbench.engines.interface import Held, Stage
from flowbench.transforms.plan import AsWritten, CouplingPlan, MaskedPlan, NetworkPlan
from flowbench.transforms.univariate import Univariate

WRITTEN = 8
"""Times what comes in that autograd holds of a map, or of a transform, as it is written."""


def of_a_row(stage: Stage, dim: int, kernels: tuple[type[Univariate], ...]) -> Held:
    """What a row of ``dim`` columns takes of a stage; ``kernels`` are the maps that are not run as they are written."""
    plan, again = stage.plan, 0
    match plan:
        case MaskedPlan():
            levels, parameters = plan.units, plan.univariate.parameters * plan.dim
        case CouplingPlan():
            parameters = sum(_outputs(network) for network in plan.networks)
            # those of a column are put together, which copies them
            levels = parameters + sum(_units(network) for network in plan.networks)
            # they read the same, and what comes back is summed
            again = sum(_inputs(network) for network in plan.networks[1:])
        case AsWritten():
            return Held(WRITTEN * dim, WRITTEN * dim)
        case _:
            return Held(2 * dim, 2 * dim)
    lean = isinstance(plan.univariate, kernels) and not stage.inverted
    # each stage has its own gradient of the context
    return Held(levels - again + 3 * dim + plan.context, levels + again + parameters * (2 if lean else WRITTEN))


def _outputs(network: NetworkPlan) -> int:
    return network.packing.layers[-1].shape[0]


def _inputs(network: NetworkPlan) -> int:
    return network.packing.layers[0].shape[1]


def _units(network: NetworkPlan) -> int:
    return _inputs(network) + sum(layer.shape[0] for layer in network.packing.layers)
