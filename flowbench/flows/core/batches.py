"""How many rows a flow evaluates at a time: no more than the memory at hand holds."""

from __future__ import annotations

import torch

from flowbench import memory
from flowbench.flows.core.flow import Flow
from flowbench.transforms import Network

ROWS = 5_000
"""Where there is memory enough: more are no faster."""

HELD = 10
"""How many times its columns, and the units of the widest network, a row takes at the most on its way."""

FEW = 16
"""Rows that are taken at a time whatever is free: to ask takes as long as their evaluation."""

SHARE = 4
"""The part of the free memory that an evaluation may take: one in so many."""


def rows_at_once(flow: Flow, most: int = ROWS) -> int:
    """How many rows: ``most``, or as many as a part of the free memory holds where it is known."""
    if most <= FEW:
        return most
    free = free_bytes(flow.origin.device)
    return most if free is None else max(1, min(most, free // SHARE // bytes_of_a_row(flow)))


def free_bytes(device: torch.device) -> int | None:
    """The memory that is available on a device; None where no one tells."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.available_bytes()


def bytes_of_a_row(flow: Flow) -> int:
    """The most that an evaluation holds for each row."""
    networks = (module.packing.layers for module in flow.modules() if isinstance(module, Network))
    widest = max((sum(sum(layer.shape) for layer in layers) for layers in networks), default=0)
    return HELD * (flow.dim + widest) * flow.origin.element_size()
