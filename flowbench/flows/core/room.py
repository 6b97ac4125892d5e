"""Room for what is built: an operation for whose outcome there is none is refused before it is carried out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

OPERATIONS = 1 << 16
"""That building any flow may take: five hundred transforms of a MAF take them, in a second or two."""


class NoRoomError(ValueError):
    """What is built asks for more than it may have."""


class Room(TorchDispatchMode):
    """Inside, torch makes no more than there is room for, whatever a flow's file builds and its options are called.

    An operation that may make too much is rehearsed on the meta device, where tensors have shapes and no content. It
    holds for the thread that entered it.

    Args:
        made: bytes in all, those that were freed again among them.
        drawn: bytes that are drawn at random, as weights are.
        operations: their number.

    >>> import torch
    >>> with Room(made=1 << 20):
    ...     torch.zeros(10**12)
    Traceback (most recent call last):
    flowbench.flows.core.room.NoRoomError: it takes more than 1.0 MB
    """

    def __init__(self, made: float, drawn: float = math.inf, operations: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made, self._drawn, self._operations = made, drawn, operations
        self._left, self._undrawn, self._done = made, drawn, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch's wrapper, which is for code that it compiles, takes two seconds to import."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry the operation out, if there is room for what it makes."""
        kwargs, kind = kwargs or {}, _kind(func)
        self._done += 1
        if self._done > self._operations:
            raise NoRoomError(f"more than {self._operations:,.0f} operations build it")
        if kind.makes_nothing:
            return func(*args, **kwargs)
        foreseen = 8 * kind.most((*args, *kwargs.values())) > min(self._left, self._undrawn)
        if foreseen:  # not always: the first rehearsal of a process takes two seconds, of imports
            self._take(_rehearsed(func, args, kwargs), kind.random)
        out = func(*args, **kwargs)
        if not foreseen:
            self._take(_bytes(out), kind.random)
        return out

    def _take(self, made: int, random: bool) -> None:
        self._left -= made
        self._undrawn -= made if random else 0
        if min(self._left, self._undrawn) < 0:
            most = self._made if self._left < 0 else self._drawn
            raise NoRoomError(f"it takes more than {decimal(int(most))}")


@dataclass(frozen=True)
class _Kind:
    """What is known of an operation: ``makes_nothing`` but views or changes in place, other than ``random`` ones."""

    makes_nothing: bool
    random: bool
    most: Callable[[tuple[Any, ...]], int]
    """Of what it is called with, the values that it makes at the most."""


@functools.cache
def _kind(func: Any) -> _Kind:
    name, random = func._schema.name, torch.Tag.nondeterministic_seeded in func.tags
    nothing_new = func.is_view or func._schema.is_mutable or name == "aten::_unsafe_view"
    most = _product
    if torch.Tag.pointwise in func.tags:
        most = _broadcast
    elif name.startswith("aten::new_"):  # as the tensor but for its size
        most = lambda given: _product(given[1:])  # noqa: E731
    elif name == "aten::eye":
        most = lambda given: _product(given) ** 2  # noqa: E731
    return _Kind(nothing_new and not random, random, most)


def _broadcast(given: Sequence[Any]) -> int:
    """The size of all tensors, broadcast."""
    return math.prod(np.broadcast_shapes(*{each.shape for each in given if isinstance(each, Tensor)}))


def _product(given: Sequence[Any]) -> int:
    """Of all integers and the sizes of all tensors; a list of tensors is as large as all of them."""
    product = 1
    for each in given:
        if isinstance(each, Tensor):
            product *= max(1, each.numel())
        elif isinstance(each, int):
            product *= max(1, abs(each))
        elif isinstance(each, list | tuple):
            tensors = [part.numel() for part in each if isinstance(part, Tensor)]
            product *= max(1, sum(tensors)) if tensors else _product(each)
    return product


def _rehearsed(func: Any, args: Any, kwargs: Any) -> int:
    """The bytes that it will make; 0 where that depends on values, of which it makes no more than it was given."""
    shapes = functools.partial(tree_map_only, Tensor, lambda tensor: tensor.to("meta"))
    where = {"device": torch.device("meta")} if any(each.name == "device" for each in func._schema.arguments) else {}
    try:
        return _bytes(func(*shapes(args), **{**shapes(kwargs), **where}))
    except (NotImplementedError, RuntimeError):
        return 0


def _bytes(out: Any) -> int:
    parts = out if isinstance(out, list | tuple) else (out,)
    return sum(part.nbytes for part in parts if isinstance(part, Tensor))
