"""What a user ordered of a fit to a target, and how the model is built."""

from __future__ import annotations

from collections.abc import Callable

from flowbench.config import tables_of
from flowbench.data import Dataset
from flowbench.variational import targets
from flowbench.variational.approximation import ApproximationOrder, with_gradients
from flowbench.variational.gaussians import Diagonal, Full, Gaussian, Standard
from flowbench.variational.networks import Same
from flowbench.variational.noise_rows import BATCH, noise_rows
from flowbench.variational.options import TargetConfig, TargetOptions
from flowbench.variational.posterior import Posterior
from flowbench.variational.reverse_kl import TargetModel
from flowbench.variational.targets.target import Target


class TargetOrder(ApproximationOrder):
    """A fit as it was asked for: ``data`` is the target's name, and of the fields for tables none is used."""

    def config(self) -> TargetConfig:
        """All that decides the run's numbers; see `Order.config`."""
        flow, target = self.approximation, targets.load(self.data)
        packaged = tables_of("fit-target", self.recipe, target=target.name, flow=flow)
        return self.resolved(TargetConfig, {"fitting": TargetOptions}, packaged, target.name)

    def dataset(self) -> Dataset:
        """Noise, as many rows as whole steps take."""
        target = targets.load(self.data)
        return noise_rows(target.name, target.version, target.dim, self.config().training.batch_size or BATCH)


def build(config: TargetConfig, target: Target) -> TargetModel:
    """The model of a configuration, its weights drawn from torch's generator.

    Raises:
        UsageError: no gradient leads through the flow's draws.
    """
    named: dict[str, Callable[[int], Gaussian]] = {"diagonal": Diagonal, "full-gaussian": Full}
    gaussian = named.get(config.flow, Standard)(target.dim)
    flow = None if config.flow in named else with_gradients(config.flow, target.dim, config.model)
    return TargetModel(target, Posterior(Same(gaussian.parameters), gaussian, flow), config.fitting.annealing_steps)
