"""Substitution in one CUDA kernel: run by Triton's interpreter, held against the steps on a CPU, and compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton, which comes with torch for CUDA")

from flowbench import engines
from flowbench.engines import TORCH, Engine, Stage
from flowbench.engines.triton.engine import TritonEngine
from flowbench.transforms import ACTIVATIONS, Affine, Body, MaskedAutoregressive, packing

CASES = [
    (1, (4,), None, "relu", 32),
    (2, (3,), 0.3, "tanh", 40),
    (3, (5,), 2.0, "relu", 1),
    (5, (), 2.0, "relu", 3),
    (6, (40, 40), 2.0, "relu", 33),
    (20, (7,), None, "tanh", 5),
    (37, (50, 30), 2.0, "tanh", 9),
    (19, (20, 30, 25), 2.0, "relu", 4),
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where conftest.py has asked for the interpreter


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize(("dim", "hidden", "bound", "activation", "n"), CASES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=["double", "single"])
def test_the_kernel_does_what_the_steps_do(
    dim: int,
    hidden: tuple[int, ...],
    bound: float | None,
    activation: Any,
    n: int,
    stripped: bool,
    dtype: torch.dtype,
    limit: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    if stripped:
        monkeypatch.setattr(packing, "STRIPPED", 1)
    transform = MaskedAutoregressive(dim, Body(hidden, ACTIVATIONS[activation]), Affine(bound))
    flat = transform.conditioner.flat
    with torch.no_grad():
        flat += 0.1 * torch.randn_like(flat) * (flat != 0)
    rows = torch.randn(dim, n), torch.randn(dim, n), torch.randn(n)

    def everything(engine: Engine, device: str) -> list[torch.Tensor]:
        transform.to(device, dtype)
        u, grad_x, grad_log_det = (part.to(device, dtype) for part in rows)
        x, log_det, pull = engine.inverse(Stage(transform.plan, transform.weights(), transform.constants()), u)
        grad_u = pull(grad_x, grad_log_det, [grad_flat := torch.full_like(transform.conditioner.flat, torch.nan)])
        return [part.cpu() for part in (x, log_det, grad_u, grad_flat)]

    with torch.no_grad():
        expected = everything(TORCH, "cpu")
        found = everything(TritonEngine(), DEVICE)
    for f, e in zip(found, expected, strict=True):
        assert (f - e).abs().max() <= limit * (1 + e.abs().max())


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from flowbench.engines.triton import kernels
from flowbench.tuning import TRITON_SHAPE

for kernel in (kernels.inverse, kernels.gradient):
    for number, capability, bound, layers, ones in (
        ("fp32", 90, 2.0, 3, {}), ("fp64", 80, None, 2, {}), ("fp32", 80, None, 2, {"dim": 1, "rows": 1})
    ):  # Triton compiles apart what is 1
        constants = {"LAYERS": layers, "TANH": bound is None, "GAIN": -0.5, "BOUND": bound, **TRITON_SHAPE, **ones}
        kinds = {"starts": "*i64", "visible": "*i64", "dim": "i32", "rows": "i32", "block": "i32"}
        names = kernel.arg_names
        signature = {p: "constexpr" if p in constants else kinds.get(p, "*" + number) for p in names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        assembly = compile(source, target=GPUTarget("cuda", capability, 32)).asm
        assert "mma.sync" in assembly["ptx"], "products that are not the tensor cores'"
        assert assembly["cubin"]
"""


def test_it_compiles_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_no_kernel_can_be_launched_torch_takes_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(self: TritonEngine) -> None:
        raise RuntimeError("Failed to find C compiler")

    assert isinstance(engines._triton.__wrapped__(), TritonEngine)
    monkeypatch.setattr(TritonEngine, "try_out", no_compiler)
    with pytest.warns(UserWarning, match="Failed to find C compiler"):
        assert engines._triton.__wrapped__() is TORCH
