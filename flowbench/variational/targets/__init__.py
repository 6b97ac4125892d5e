"""Target densities, known up to a constant: what `flowbench fit-target` fits a flow to. One file a kind of target."""

from flowbench.variational.targets.registry import load, names

__all__ = ["load", "names"]
