"""Flows with weights that are not special: small, shaken out of their initial state, in evaluation mode."""

from __future__ import annotations

import torch

from flowbench import flows
from flowbench.flows import Flow
from flowbench.training.contract import small


def shaken(name: str, dim: int, **settings: object) -> Flow:
    """The flow ``name`` over ``dim`` columns, see `contract.small`, in the default precision."""
    return small(flows.load(name), dim, **settings).to(torch.get_default_dtype())
