"""The textbook's pass, taken as fast as flowbench can take it: else a ratio to the textbook would flatter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from flowbench.engines import Engine, Stage
from flowbench.engines.differentiate import run
from flowbench.results.costs import PassName
from flowbench.training.clock import measure, runner
from flowbench.transforms import MaskedAutoregressive
from flowbench.transforms.autoregressive import Pass
from flowbench.transforms.plan import CouplingConstants, CouplingPlan
from flowbench.transforms.transform import Pair


class EnginePass:
    """A pass of the textbook's inverse, see `transforms.autoregressive.Pass`, by an engine.

    It is a coupling of 2D columns: x passes, and says by the network how u moves. So engines have it already, compiled
    where they compile a density, with the same products, which leave out what masks make zero.
    """

    def __init__(self, transform: MaskedAutoregressive, engine: Engine) -> None:
        made = transform.conditioner
        plan = CouplingPlan((made.masked_plan.network,), transform.univariate, by_column=True)
        columns = torch.arange(2 * made.dim, device=made.masks.device)
        constants = CouplingConstants(columns[: made.dim], columns[made.dim :], columns, (made.masks,))
        self._dim, self._engine = made.dim, engine
        self._stages = engine.join([Stage(plan, [made.flat], constants, inverted=True)], 2 * made.dim)

    def __call__(self, x: Tensor, u: Tensor) -> Pair:
        """Of u (N, D) f⁻¹(u; θ(x)) with x (N, D), and log_det (N,)."""
        moved, log_det = run(self._stages, torch.cat([x, u], 1), self._engine)
        return moved[:, self._dim :], log_det


class FastestPass:
    """The pass that is faster, an engine's or that of the equations as written; ``name`` says which, once it is known.

    It is measured once, in turns on the first rows that a transform inverts, and is that of all transforms of a flow.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name: PassName | None = None

    def of(self, transform: MaskedAutoregressive, u: Tensor) -> Pass:
        """The pass of a transform, to invert u (N, D)."""
        made: dict[PassName, Callable[[], Pass]] = {
            "engine": lambda: EnginePass(transform, self._engine),
            "written": transform.written_pass,
        }
        if self.name is None:
            runners = {name: runner(partial(make(), u, u)) for name, make in made.items()}
            medians = {name: sample.quartiles(1)[1] for name, sample in measure(runners, seconds=0).items()}
            self.name = "engine" if medians["engine"] < medians["written"] else "written"
        return made[self.name]()
