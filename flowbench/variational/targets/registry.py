"""The targets by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable

from flowbench.errors import UsageError, did_you_mean
from flowbench.variational.targets import energies
from flowbench.variational.targets.funnel import Funnel
from flowbench.variational.targets.logistic import Logistic
from flowbench.variational.targets.target import Target

_TARGETS: dict[str, Callable[[], Target]] = {
    "energy-1": energies.energy_1,
    "energy-2": energies.energy_2,
    "energy-3": energies.energy_3,
    "energy-4": energies.energy_4,
    "funnel": Funnel,
    "logistic": Logistic,
}


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
    return _TARGETS[name]()
