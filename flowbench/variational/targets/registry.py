"""The targets by their names on the command line. No torch, until one is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flowbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from flowbench.variational.targets.target import Target

_TARGETS = {
    "energy-1": "energies.energy_1",
    "energy-2": "energies.energy_2",
    "energy-3": "energies.energy_3",
    "energy-4": "energies.energy_4",
    "funnel": "funnel.Funnel",
    "logistic": "logistic.Logistic",
}
"""What makes each, in this folder."""


def names() -> list[str]:
    """The targets there are."""
    return sorted(_TARGETS)


def load(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none.
        DataError: the data that it is made of are not those that its reference moments belong to.
    """
    if name not in _TARGETS:
        raise UsageError(f"unknown target {name!r}", did_you_mean(name, _TARGETS))
    module, _, make = _TARGETS[name].partition(".")
    target: Target = getattr(import_module(f"{__package__}.{module}"), make)()
    return target
