"""Flows with weights that are not special: small, shaken out of their initial state, in evaluation mode."""

from __future__ import annotations

import torch

from flowbench import flows
from flowbench.flows import Flow
from flowbench.training.calibration import calibrate
from flowbench.transforms import Network


def shaken(name: str, dim: int, **options: object) -> Flow:
    """The flow ``name`` over ``dim`` columns; biases and statistics away from zero, masked weights still zero."""
    torch.manual_seed(dim)
    module = flows.load(name)
    small = {"hidden": (11, 13), "transforms": 3, "log_scale_bound": 2.0} | options
    chosen = {key: value for key, value in small.items() if key in module.Options.model_fields}
    flow = module.build(dim, module.Options(**chosen))
    rows = torch.randn(50 * dim, dim) @ torch.randn(dim, dim) + torch.randn(dim)
    flow.fit_closed_form(rows)
    with torch.no_grad():
        networks = [module for module in flow.modules() if isinstance(module, Network)]
        biases = [view.bias for net in networks for view in net.packing.views(net.flat)]
        others = [p for name, p in flow.named_parameters() if p.ndim == 1 and not name.endswith("flat")]
        for tensor in biases + others:
            tensor.normal_(std=0.3)
    calibrate(flow, rows)
    return flow.eval()
