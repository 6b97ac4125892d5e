"""What is derived from a transform's structure, for as long as it has that."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from flowbench.engines import Stage

_VERSION = attrgetter("_version")


class Structure:
    """The parts of a module as they are now: submodules, parameters, and buffers with the integers that they hold.

    Weights may change in place, and move to another device or precision: what is derived must not hold their values.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modules = list(module.modules())
        registries: list[dict[str, Any]] = []
        for part in self._modules:
            registries += [part._modules, part._parameters, part._buffers]
        self._registries = [kind for kind in registries if kind]
        self._empty = [kind for kind in registries if not kind]
        self._parts = self._found()
        self._integers = [part for part in module.buffers() if not (part.is_floating_point() or part.is_inference())]
        self._versions = self._counted()

    def holds(self) -> bool:
        """Whether they still are the same."""
        parts = self._found()
        same = len(parts) == len(self._parts) and all(map(operator.is_, parts, self._parts))
        return same and not any(self._empty) and self._counted() == self._versions

    def has(self, tensors: Iterable[Tensor]) -> bool:
        """Whether all of these are registered in the module."""
        known = set(map(id, self._parts))
        return all(id(tensor) in known for tensor in tensors)

    def modes(self) -> tuple[bool, ...]:
        """Of each module, whether it is in training."""
        return tuple([part.training for part in self._modules])

    def _found(self) -> list[object]:
        return list(chain.from_iterable(map(dict.values, self._registries)))

    def _counted(self) -> list[int]:
        """How often each integer buffer was changed in place."""
        return list(map(_VERSION, self._integers))


class Joinings:
    """A transform's stages as engines join them, kept while its structure holds; copies begin without."""

    def __init__(self) -> None:
        self._state: tuple[nn.Module, Structure, dict[Hashable, list[Stage]]] | None = None

    def of(self, transform: nn.Module, key: Hashable, join: Callable[[], list[Stage]]) -> list[Stage]:
        """What ``join`` gives for that ``key`` and the modes in which the transform's parts are."""
        state = self._state  # one thread's, whatever another writes meanwhile
        if state is None or state[0] is not transform or not state[1].holds():
            state = self._state = transform, Structure(transform), {}
        _, structure, kept = state
        key = structure.modes(), key
        if key not in kept:
            stages = join()
            if not structure.has(weight for stage in stages for weight in stage.weights):
                return stages  # weights that are computed are others next time
            kept[key] = stages
        return kept[key]

    def __deepcopy__(self, _: object) -> Joinings:
        return Joinings()

    def __reduce__(self) -> tuple[type[Joinings], tuple[()]]:
        return Joinings, ()
