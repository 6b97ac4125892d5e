"""Target densities, known up to a constant: what `flowbench fit-target` trains a flow to. One file a kind of target."""

from flowbench.variational.targets.registry import load, names
from flowbench.variational.targets.target import Moments, Target

__all__ = ["Moments", "Target", "load", "names"]
