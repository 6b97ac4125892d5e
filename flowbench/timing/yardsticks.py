"""What a cost is held against: the operations that a pass must take, the machine's rate, and memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from flowbench.flows import Flow
from flowbench.training.clock import measure, runner
from flowbench.transforms import Network


def connections(flow: Flow) -> int:
    """The weights that a pass must multiply each row by: those that masks leave."""
    total = 0
    for module in flow.modules():
        if isinstance(module, Network):
            total += sum(int(layer.mask().sum()) for layer in module.packing.layers)
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()
    return total


def matrix_rate(device: str) -> float:
    """Floating-point operations a second in products of large square matrices, on this machine with these threads."""
    size = 2048 if device == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=device)
    sample = measure({"mm": runner(lambda: a @ b)}, 0.5)["mm"]
    return 2 * size**3 / sample.quartiles(1.0)[1]


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """The most memory that a run of ``work`` holds beyond what was held before, as torch's allocators count it.

    What a compiled kernel takes for itself on its way (small networks' gradients alone) is not among it.
    """
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would print a line each time it starts and stops
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events: Any = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return int(max(np.cumsum([change for _, change in changes]), default=0))
