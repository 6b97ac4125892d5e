"""How many numbers a stage holds in a step of training, from its plan."""

from __future__ import annotations

from flowbench.engines.interface import Held, Stage
from flowbench.transforms.plan import AsWritten, CouplingPlan, MaskedPlan, NetworkPlan
from flowbench.transforms.univariate import Univariate

WRITTEN = 8
"""Times what comes in that autograd holds of a map, or of a transform, as it is written."""


def of_a_row(stage: Stage, dim: int, kernels: tuple[type[Univariate], ...]) -> Held:
    """What a row of ``dim`` columns takes of a stage; ``kernels`` are the maps that are not run as they are written."""
    plan = stage.plan
    match plan:
        case MaskedPlan():
            levels, parameters = plan.units, plan.univariate.parameters * plan.dim
        case CouplingPlan():
            parameters = sum(_outputs(network) for network in plan.networks)
            # those of a column are put together, which copies them
            levels = parameters + sum(_units(network) for network in plan.networks)
        case AsWritten():
            return Held(WRITTEN * dim, WRITTEN * dim)
        case _:
            return Held(2 * dim, 2 * dim)
    lean = isinstance(plan.univariate, kernels) and not stage.inverted
    return Held(levels + 3 * dim, levels + parameters * (2 if lean else WRITTEN))


def _outputs(network: NetworkPlan) -> int:
    return network.packing.layers[-1].shape[0]


def _units(network: NetworkPlan) -> int:
    layers = network.packing.layers
    return layers[0].shape[1] + sum(layer.shape[0] for layer in layers)
