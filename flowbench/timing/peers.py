"""The same model built by other libraries, so that their times can stand beside ours: one adapter a library.

Theirs are MAFs (and IAFs, RealNVPs, and autoregressive neural spline flows) of the same widths, relu units, layers
without residual blocks and number of transforms, each with its library's own map of a column, permutations between and
no batch normalisation; ours, beside them, too (``ALIKE``). They are trained as their documentation does:
``torch.optim.Adam`` with its defaults, flowjax by its own jitted step.

With ``best`` those on torch are what a careful user would make of them: Adam is fused and, where there is a compiler,
directions of one pass are compiled by ``torch.compile``; D passes, unrolled, would take it minutes or hours.

Two are less than ours, and are timed as they are: a RealNVP's scale and translation come of one network in zuko, nflows
and flowjax, of two in normflows and here; and normflows' masked network has no activation after its first layer.

Each runs in a process of its own (``peer_process``), which finds its adapter by name and calls it with the model, the
rows (N, D) in float32 and the device.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIKE: dict[str, Any] = {"batch_norm": False, "activation": "relu", "residual": False, "between": "reverse"}
"""The settings with which a flow of ours is what theirs are."""

SPLINED = ("zuko", "nflows")
"""Those whose masked networks give splines, too."""

BINS = 8
"""Of a spline, everywhere."""

NAMES = ("zuko", "nflows", "normflows", "flowjax")
"""The libraries; the adapter of each is the function of its name."""

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """What a peer builds: a ``flow`` (maf, iaf, realnvp or nsf-ar) of ``transforms`` networks with ``hidden`` units."""

    flow: str
    dim: int
    hidden: tuple[int, ...]
    transforms: int
    best: bool = False


@dataclass(frozen=True)
class Works:
    """What a peer can be asked to do; ``wait`` returns when the device has done what was asked."""

    density: Callable[[], object]
    sampling: Callable[[], object]
    step: Callable[[], object]
    wait: Callable[[], object] = lambda: None


def obstacle(peer: str, model: Model, device: str) -> str | None:
    """Why ``peer`` cannot be timed; None if it can."""
    if model.flow not in ("maf", "iaf", "realnvp", *(["nsf-ar"] if peer in SPLINED else [])):
        return f"a {model.flow} has no network of the same shape there"
    if model.dim < 2:
        return "one column leaves a network nothing to do"
    if len(set(model.hidden)) != 1 and (peer == "flowjax" or (peer != "zuko" and model.flow != "realnvp")):
        return "its hidden layers have one width"
    if peer == "flowjax" and device != "cpu":
        return "it is timed on a CPU alone"
    if importlib.util.find_spec(peer) is None:
        return "it is not installed; pip install 'flowbench[peers]' has it"
    return None


def zuko(model: Model, rows: Rows, device: str) -> Works:
    """zuko's MAF or NSF; an IAF is made of a MAF's transforms, each inverted."""
    import zuko

    sizes = {"transforms": model.transforms, "hidden_features": model.hidden}
    kinds = {"nsf-ar": partial(zuko.flows.NSF, bins=BINS), "realnvp": zuko.flows.RealNVP}
    flow = kinds.get(model.flow, zuko.flows.MAF)(model.dim, **sizes)
    if model.flow == "iaf":
        flow = zuko.flows.Flow([zuko.lazy.LazyInverse(step) for step in flow.transform.transforms], flow.base)
    return _on_torch(model, flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)), rows, device)


def nflows(model: Model, rows: Rows, device: str) -> Works:
    """nflows' masked autoregressive transforms, affine ones or splines, with reversing permutations; its couplings."""
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms import CompositeTransform

    steps = _nflows_couplings(model) if model.flow == "realnvp" else _nflows_masked(model)
    flow = Flow(CompositeTransform(steps), StandardNormal([model.dim]))
    return _on_torch(model, flow, flow.log_prob, flow.sample, rows, device)


def _nflows_masked(model: Model) -> list[Any]:
    from nflows import transforms

    steps: list[Any] = []
    # its first hidden layer stands before the blocks
    shape = {"num_blocks": len(model.hidden) - 1, "use_residual_blocks": False}
    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": 3.0}
    for _ in range(model.transforms):
        if model.flow == "nsf-ar":
            step = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                model.dim, model.hidden[0], **shape, **spline
            )
        else:
            step = transforms.MaskedAffineAutoregressiveTransform(model.dim, model.hidden[0], **shape)
        steps += [transforms.InverseTransform(step) if model.flow == "iaf" else step]
        steps += [transforms.ReversePermutation(model.dim)]
    return steps[:-1]


def _nflows_couplings(model: Model) -> list[Any]:
    """They move the columns of one parity, then the others: no order of columns lies between."""
    from nflows.nn.nets import MLP
    from nflows.transforms import AffineCouplingTransform
    from nflows.utils.torchutils import create_alternating_binary_mask

    class Network(MLP):  # type: ignore[misc]
        """Its layers, as couplings call them: with a context, here of nothing."""

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__([inputs], [outputs], list(model.hidden))

        def forward(self, inputs: Any, context: None = None) -> Any:
            return super().forward(inputs)

    masks = (create_alternating_binary_mask(model.dim, even=index % 2 == 0) for index in range(model.transforms))
    return [AffineCouplingTransform(mask, Network) for mask in masks]


def normflows(model: Model, rows: Rows, device: str) -> Works:
    """normflows' masked affine autoregressive flows, with its permutations between; its masked couplings in turn."""
    import normflows as nf

    steps = _normflows_couplings(model) if model.flow == "realnvp" else _normflows_masked(model)
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(model.dim, trainable=False), steps)
    return _on_torch(model, flow, flow.log_prob, lambda n: flow.sample(n)[0], rows, device)


def _normflows_masked(model: Model) -> list[Any]:
    import normflows as nf

    steps: list[Any] = []
    for _ in range(model.transforms):
        step = nf.flows.MaskedAffineAutoregressive(
            model.dim, model.hidden[0], num_blocks=len(model.hidden) - 1, use_residual_blocks=False
        )
        # its directions are an IAF's
        steps += [step if model.flow == "iaf" else nf.flows.Reverse(step), nf.flows.Permute(model.dim)]
    return steps[:-1]


def _normflows_couplings(model: Model) -> list[Any]:
    import normflows as nf
    import torch

    sizes = [model.dim, *model.hidden, model.dim]
    masks = ((torch.arange(model.dim) % 2 == index % 2).float() for index in range(model.transforms))
    return [nf.flows.MaskedAffineFlow(mask, nf.nets.MLP(sizes), nf.nets.MLP(sizes)) for mask in masks]


def best_of(peer: str, device: str) -> str | None:
    """How a peer at its best is named; None if it is at its best already: flowjax compiles all that it does."""
    return None if peer == "flowjax" else f"{peer}, {'compiled' if _compiles(device) else 'fused'}"


def _compiles(device: str) -> bool:
    """Whether what ``torch.compile`` needs is here."""
    if device.startswith("cuda"):
        return importlib.util.find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is not None


def _on_torch(
    model: Model, flow: Any, log_prob: Callable[[Any], Any], sample: Callable[[int], Any], rows: Rows, device: str
) -> Works:
    import torch

    x = torch.from_numpy(rows.copy()).to(device)
    flow.to(device)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, fused=model.best or None)
    if model.best and _compiles(device):
        if model.flow != "iaf":
            log_prob = torch.compile(log_prob, dynamic=False)
        if model.flow in ("iaf", "realnvp"):
            sample = torch.compile(sample, dynamic=False)

    def step() -> None:
        optimizer.zero_grad()
        (-log_prob(x).mean()).backward()
        optimizer.step()

    return Works(
        density=torch.no_grad()(lambda: log_prob(x)),
        sampling=torch.no_grad()(lambda: sample(len(x))),
        step=step,
        wait=torch.cuda.synchronize if x.is_cuda else lambda: None,
    )


def flowjax(model: Model, rows: Rows, device: str) -> Works:
    """flowjax's masked autoregressive flow, each work jitted; ``device`` is the CPU."""
    if hasattr(os, "sched_setaffinity"):  # JAX takes every core that it may use
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import equinox as eqx
    import jax
    import optax
    import paramax
    from flowjax.distributions import StandardNormal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow
    from flowjax.train.losses import MaximumLikelihoodLoss
    from flowjax.train.train_utils import step as descend

    build = coupling_flow if model.flow == "realnvp" else masked_autoregressive_flow
    flow = build(
        jax.random.key(0),
        base_dist=StandardNormal((model.dim,)),
        flow_layers=model.transforms,
        nn_width=model.hidden[0],
        nn_depth=len(model.hidden),
        invert=model.flow != "iaf",
    )
    x, key = jax.numpy.asarray(rows), jax.random.key(1)
    log_prob = eqx.filter_jit(lambda flow, x: flow.log_prob(x))
    sample = eqx.filter_jit(lambda flow, key: flow.sample(key, (len(rows),)))
    fixed = {"is_leaf": lambda leaf: isinstance(leaf, paramax.NonTrainable)}
    parameters, static = eqx.partition(flow, eqx.is_inexact_array, **fixed)
    optimizer, loss = optax.adam(1e-3), MaximumLikelihoodLoss()
    state = [parameters, optimizer.init(parameters)]

    def step() -> None:
        state[:] = descend(state[0], static, x, optimizer=optimizer, opt_state=state[1], loss_fn=loss)[:2]
        jax.block_until_ready(state[0])

    return Works(
        density=lambda: jax.block_until_ready(log_prob(flow, x)),
        sampling=lambda: jax.block_until_ready(sample(flow, key)),
        step=step,
    )
