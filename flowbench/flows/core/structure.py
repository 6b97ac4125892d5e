"""What is derived from a transform's structure, for as long as it has that."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from torch import nn

from flowbench.engines import Stage


class Structure:
    """The parts of a module as they are now: submodules, parameters, and buffers with the integers that they hold.

    Weights may change in place, and move to another device or precision: what is derived must not hold their values.
    """

    def __init__(self, module: nn.Module) -> None:
        own = [kind for part in module.modules() for kind in (part._modules, part._parameters, part._buffers)]
        self._sizes = [(kind, len(kind)) for kind in own]
        self._parts: list[tuple[dict[str, Any], str, Any]] = [
            (kind, name, part) for kind in own for name, part in kind.items()
        ]
        integers = [part for part in module.buffers() if not part.is_floating_point() and not part.is_inference()]
        self._integers = [(part, part._version) for part in integers]
        self._modules = list(module.modules())

    def holds(self) -> bool:
        """Whether they still are the same."""
        for kind, size in self._sizes:
            if len(kind) != size:
                return False
        for kind, name, part in self._parts:
            if kind.get(name) is not part:
                return False
        return all(part._version == version for part, version in self._integers)

    def modes(self) -> tuple[bool, ...]:
        """Of each module, whether it is in training."""
        return tuple([part.training for part in self._modules])


class Joinings:
    """A transform's stages as engines join them, kept while its structure holds; copies begin without."""

    def __init__(self) -> None:
        self._structure: Structure | None = None
        self._transform: nn.Module | None = None
        self._kept: dict[Hashable, list[Stage]] = {}

    def of(self, transform: nn.Module, key: Hashable, join: Callable[[], list[Stage]]) -> list[Stage]:
        """What ``join`` gives for that ``key`` and the modes in which the transform's parts are."""
        if transform is not self._transform or self._structure is None or not self._structure.holds():
            self._transform, self._structure, self._kept = transform, Structure(transform), {}
        key = self._structure.modes(), key
        if key not in self._kept:
            self._kept[key] = join()
        return self._kept[key]

    def __deepcopy__(self, _: object) -> Joinings:
        return Joinings()

    def __reduce__(self) -> tuple[type[Joinings], tuple[()]]:
        return Joinings, ()
