"""The engine for CUDA: torch's, with substitution and its gradient in one kernel each."""

from __future__ import annotations

from typing import Any, cast

import torch
import triton
from torch import Tensor

from flowbench.engines.eager.engine import TorchEngine
from flowbench.engines.eager.substitution import Solved, preset
from flowbench.engines.interface import Stage, in_kernels
from flowbench.engines.triton import kernels
from flowbench.transforms.activation import TANH
from flowbench.transforms.affine import Affine
from flowbench.transforms.plan import MaskedPlan
from flowbench.tuning import TRITON_BLOCK, TRITON_SHAPE


class TritonEngine(TorchEngine):
    """Torch's, with substitution in kernels where the map is affine and the units are relu or tanh."""

    def try_out(self) -> None:
        """Invert the identity of one column; raises what stands in the way of doing that."""
        device = "cuda" if torch.cuda.is_available() else "cpu"  # there by the interpreter, in tests
        u, flat = torch.full((1, 1), 3.0, device=device), torch.zeros(4, device=device)
        starts, visible = (
            torch.zeros(3, dtype=torch.int64, device=device),
            torch.tensor([[0, 1], [1, 3]], device=device),
        )
        values, log_det = torch.zeros(3, 1, device=device), torch.ones(1, device=device)
        kinds = {"LAYERS": 1, "TANH": False, "GAIN": -0.5, "BOUND": None}
        kernels.inverse[(1,)](u, values, flat, starts, visible, log_det, 1, 1, TRITON_BLOCK, **kinds, **TRITON_SHAPE)
        if float(values[0]) != 3 or float(log_det) != 0:
            raise RuntimeError("its kernels do not do what they should")

    def substitute(self, plan: MaskedPlan, stage: Stage, u: Tensor) -> Solved:
        """See `TorchEngine.substitute`."""
        if not in_kernels(plan):
            return super().substitute(plan, stage, u)
        values = preset(plan, stage.weights[0], u.shape[1])
        log_det = u.new_empty(u.shape[1])
        _launch(kernels.inverse, plan, u, u, values, *_network(stage), log_det)
        return Solved(values[: plan.dim].clone(), log_det, values, None)

    def pull_inverse(
        self, plan: MaskedPlan, stage: Stage, u: Tensor, solved: Solved, gradients: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `TorchEngine.pull_inverse`."""
        if not in_kernels(plan):
            return super().pull_inverse(plan, stage, u, solved, gradients)
        cotangents, grad_u = torch.zeros_like(solved.values), torch.empty_like(u)
        cotangents[: plan.dim] = gradients[0]
        tensors = u, solved.values, cotangents, *_network(stage), gradients[1].contiguous(), grad_u
        _launch(kernels.gradient, plan, u, *tensors)
        return grad_u, cotangents


def _network(stage: Stage) -> tuple[Tensor, ...]:
    return stage.weights[0].detach(), stage.constants.starts, stage.constants.visible


def _launch(kernel: Any, plan: MaskedPlan, rows: Tensor, *tensors: Tensor) -> None:
    dim, n = rows.shape
    affine = cast("Affine", plan.univariate)
    kinds: dict[str, Any] = {"LAYERS": plan.levels - 1, "TANH": plan.network.activation == TANH}
    kinds |= {"GAIN": affine.gain, "BOUND": affine.bound}
    with torch.cuda.device_of(rows):  # Triton takes the current one
        kernel[(triton.cdiv(n, TRITON_SHAPE["TILE"]),)](*tensors, dim, n, TRITON_BLOCK, **kinds, **TRITON_SHAPE)
