"""What approximates a density: a Gaussian or a flow, by its name, through whose draws gradients lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch

from flowbench import flows, plugins
from flowbench.config import FlowOptions, RunConfig, Settings, TrainingOptions, as_set, resolve_as
from flowbench.errors import UsageError
from flowbench.flows import Flow
from flowbench.training.environment import resolve_device
from flowbench.training.order import Order
from flowbench.transforms import WithStatistics
from flowbench.variational.options import GAUSSIANS

ABLE = (*GAUSSIANS, "iaf", "maf", "realnvp", "nsf-ar", "nsf-c")
"""flowbench's own approximations."""

C = TypeVar("C", bound=RunConfig)


def options_of(name: str) -> type[FlowOptions]:
    """What an approximation of that name is assembled from: a Gaussian from nothing."""
    return FlowOptions if name in GAUSSIANS else flows.load(name).Options


class ApproximationOrder(Order):
    """An order whose ``flow`` may be one of the Gaussians, too."""

    @property
    def approximation(self) -> str:
        """The name of what approximates.

        Raises:
            UsageError: there is no such flow.
        """
        return self.flow if self.flow in GAUSSIANS else plugins.name_of("flows", self.flow)

    def resolved(self, kind: type[C], parts: Mapping[str, type[Settings]], packaged: Mapping[str, Any], data: str) -> C:
        """The configuration, of the flow's options, the training's and these ``parts``; torch takes the threads.

        One thread unless others are asked for: a step is many small products, and with two it took twice as long.
        """
        torch.set_num_threads(self.threads or 1)
        flow = self.approximation
        return resolve_as(
            kind,
            {"model": options_of(flow), "training": TrainingOptions, **parts},
            packaged,
            self.settings,
            flow=flow,
            data=data,
            recipe=self.recipe,
            code=None if flow in GAUSSIANS else flows.code(flow),
            seed=self.seed,
            init_seed=self.init_seed,
            shuffle_seed=self.shuffle_seed,
            device=resolve_device(self.device),
            threads=torch.get_num_threads(),
        )

    @property
    def words(self) -> list[str]:
        """The options of the command line that say the rest of the order: all but the flow and what it is fitted to."""
        said = {"recipe": self.recipe, "seed": self.seed, "device": self.device, "threads": self.threads}
        usual = {name: type(self).model_fields[name].default for name in said}
        words = [word for name, value in said.items() if value != usual[name] for word in (f"--{name}", str(value))]
        return words + [w for key, value in self.settings.items() for w in ("--set", f"{key}={as_set(value)}")]


def with_gradients(name: str, dim: int, options: FlowOptions, given: Sequence[int] = ()) -> Flow:
    """A flow over rows of ``dim`` columns, through whose draws gradients lead; ``given`` as `flows.build` has it.

    Raises:
        UsageError: none lead there, or it takes statistics of training rows, of which there are none.
    """
    flow = flows.build(name, dim, options, given)
    hint = f"there are: {', '.join(ABLE)}"
    if any(isinstance(module, WithStatistics) for module in flow.modules()):
        said = f"{name} takes statistics of training rows, of which there are none"
        raise UsageError(said, "--set batch_norm=false" if hasattr(options, "batch_norm") else hint)
    *_, (last, inverted) = flow.transform.leaves()
    if not flow.bijective or (last.draws > 1 and not inverted) or len(flow.parts) > 1:
        raise UsageError(f"no gradient leads through the draws of {name}", hint)
    if not any(parameter.requires_grad for parameter in flow.parameters()):
        raise UsageError(f"{name} has no parameters to descend on", hint)
    return flow
