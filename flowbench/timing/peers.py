"""The same model built by other libraries, so that their times can stand beside ours: one adapter a library.

zuko, nflows and normflows run on torch, in this process. flowjax runs on JAX, jitted, in a process of its own that
works only when it is asked: ``python -m flowbench.timing.peers`` is that process.

Theirs are MAFs (and IAFs) of the same widths, relu units and number of transforms, each with its library's own affine
map, permutations between and no batch normalisation; ours, beside them, too (``ALIKE``). They are trained as their
documentation does: ``torch.optim.Adam`` with its defaults, flowjax by its own jitted step.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from flowbench.errors import FlowbenchError

Work = Callable[[], object]

ALIKE: dict[str, Any] = {"batch_norm": False, "activation": "relu"}
"""The settings with which a flow of ours is what theirs are."""


@dataclass(frozen=True)
class Model:
    """What a peer builds: an affine ``flow`` (maf or iaf) of ``transforms`` networks with ``hidden`` units."""

    flow: str
    dim: int
    hidden: tuple[int, ...]
    transforms: int


def obstacle(peer: str, model: Model, device: str) -> str | None:
    """Why ``peer`` cannot be timed; None if it can."""
    if model.flow not in ("maf", "iaf"):
        return f"a {model.flow} has no network of the same shape there"
    if model.dim < 2:
        return "one column leaves an autoregressive network nothing to do"
    if peer != "zuko" and len(set(model.hidden)) != 1:
        return "its hidden layers have one width"
    if peer == "flowjax" and device != "cpu":
        return "it is timed on a CPU alone"
    if importlib.util.find_spec(peer) is None:
        return "it is not installed; pip install 'flowbench[peers]' has it"
    return None


def _zuko(model: Model) -> tuple[Any, Callable[[Any], Any], Callable[[int], Any]]:
    import zuko

    flow = zuko.flows.MAF(model.dim, transforms=model.transforms, hidden_features=model.hidden)
    if model.flow == "iaf":
        flow = zuko.flows.Flow([zuko.lazy.LazyInverse(step) for step in flow.transform.transforms], flow.base)
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def _nflows(model: Model) -> tuple[Any, Callable[[Any], Any], Callable[[int], Any]]:
    from nflows import transforms
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow

    steps: list[Any] = []
    for _ in range(model.transforms):
        # its first hidden layer stands before the blocks
        step = transforms.MaskedAffineAutoregressiveTransform(
            model.dim, model.hidden[0], num_blocks=len(model.hidden) - 1, use_residual_blocks=False
        )
        steps += [transforms.InverseTransform(step) if model.flow == "iaf" else step]
        steps += [transforms.ReversePermutation(model.dim)]
    flow = Flow(transforms.CompositeTransform(steps[:-1]), StandardNormal([model.dim]))
    return flow, flow.log_prob, flow.sample


def _normflows(model: Model) -> tuple[Any, Callable[[Any], Any], Callable[[int], Any]]:
    import normflows as nf

    steps: list[Any] = []
    for _ in range(model.transforms):
        step = nf.flows.MaskedAffineAutoregressive(
            model.dim, model.hidden[0], num_blocks=len(model.hidden) - 1, use_residual_blocks=False
        )
        # its directions are an IAF's
        steps += [step if model.flow == "iaf" else nf.flows.Reverse(step), nf.flows.Permute(model.dim)]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(model.dim, trainable=False), steps[:-1])
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


ON_TORCH = {"zuko": _zuko, "nflows": _nflows, "normflows": _normflows}
NAMES = (*ON_TORCH, "flowjax")


def on_torch(peer: str, model: Model, rows: Any) -> dict[str, Work]:
    """The works of a peer that runs on torch, on ``rows`` (N, D), a tensor."""
    import torch

    flow, log_prob, sample = ON_TORCH[peer](model)
    flow.to(rows.device)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        (-log_prob(rows).mean()).backward()
        optimizer.step()

    return {
        "density": torch.no_grad()(lambda: log_prob(rows)),
        "sampling": torch.no_grad()(lambda: sample(len(rows))),
        "step": step,
    }


def _flowjax(model: Model, rows: NDArray[np.float32]) -> dict[str, Work]:
    import equinox as eqx
    import jax
    import optax
    import paramax
    from flowjax.distributions import StandardNormal
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train.losses import MaximumLikelihoodLoss
    from flowjax.train.train_utils import step as descend

    flow = masked_autoregressive_flow(
        jax.random.key(0),
        base_dist=StandardNormal((model.dim,)),
        flow_layers=model.transforms,
        nn_width=model.hidden[0],
        nn_depth=len(model.hidden),
        invert=model.flow == "maf",
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

    return {
        "density": lambda: jax.block_until_ready(log_prob(flow, x)),
        "sampling": lambda: jax.block_until_ready(sample(flow, key)),
        "step": step,
    }


class FlowjaxProcess:
    """flowjax in a process of its own, on as many cores as torch has threads; it works only while it is asked to."""

    def __init__(self, model: Model, rows: NDArray[np.float32], threads: int) -> None:
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        command = [sys.executable, "-m", "flowbench.timing.peers", str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=environment
        )
        self._send({"model": asdict(model), "rows": list(rows.shape)})
        self._write(np.ascontiguousarray(rows, dtype=np.float32).tobytes())

    def run(self, work: str, runs: int) -> float:
        """Seconds of one of ``runs`` runs of a work.

        Raises:
            FlowbenchError: the process has ended.
        """
        self._send({"work": work, "runs": runs})
        answer = cast("Any", self._process.stdout).readline()
        if not answer:
            raise self._ended()
        return float(answer)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(OSError):
                cast("Any", file).close()

    def _ended(self) -> FlowbenchError:
        self._process.wait()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().splitlines()[-1:]
        return FlowbenchError(f"flowjax's process ended: {' '.join(last)}", hint="leave --peers out, or mend flowjax")

    def _send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    def _write(self, content: bytes) -> None:
        pipe = cast("Any", self._process.stdin)
        try:
            pipe.write(content)
            pipe.flush()
        except OSError:
            raise self._ended() from None


def _serve(threads: int) -> None:
    """Build the model that stdin names, then time the works that it asks for."""
    if hasattr(os, "sched_setaffinity"):  # JAX takes every core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    head = json.loads(sys.stdin.buffer.readline())
    shape = head["rows"]
    rows = np.frombuffer(sys.stdin.buffer.read(4 * shape[0] * shape[1]), dtype=np.float32).reshape(shape)
    works = _flowjax(Model(**{**head["model"], "hidden": tuple(head["model"]["hidden"])}), rows)
    for line in sys.stdin.buffer:
        order = json.loads(line)
        began = time.perf_counter()
        for _ in range(order["runs"]):
            works[order["work"]]()
        print((time.perf_counter() - began) / order["runs"], flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
