"""Older weights: format 1 kept each network's packed tensor, and named a RealNVP's two apart."""

from __future__ import annotations

from torch import Tensor

from flowbench.flows import Flow
from flowbench.transforms import Network
from flowbench.transforms.packing import Packing

_CUT = 4, 1 << 17
"""How format 1 was packed, whatever is fastest today."""


def upgraded(state: dict[str, Tensor], flow: Flow) -> dict[str, Tensor]:
    """The state of weights of format 1 as ``flow`` takes it today; others as they are."""
    found = dict(state)
    for name, network in flow.named_modules():
        if not isinstance(network, Network):
            continue
        older = name.replace("networks.0", "translation").replace("networks.1", "scale")
        flat = found.pop(f"{older}.flat", None)
        if flat is None:
            continue
        for index, view in enumerate(Packing(network.packing.degrees, _CUT).views(flat)):
            found[f"{name}.{index}.weight"], found[f"{name}.{index}.bias"] = view.dense(), view.bias
    return found
