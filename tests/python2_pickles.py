"""Pickles as Python 2 wrote them in protocol 2, byte by byte: arrays, and the data frames of pandas 0.19 and 0.20."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Name:
    """A global: a module's function or class."""

    module: str
    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """``called(*args)``, and its state if it is given one. ``new`` is how an object is made that is no call."""

    called: Name
    args: tuple[Any, ...]
    state: Any = None
    new: bool = False


def dump(value: object) -> bytes:
    """The whole stream; an object that occurs twice is written once."""
    memo: dict[int, int] = {}
    return b"\x80\x02" + _encode(value, memo) + b"."


def array(values: np.ndarray) -> Call:
    """As numpy reduces it: `_reconstruct(ndarray, (0,), 'b')`, and all else in the state."""
    column_major = not values.flags.c_contiguous and values.flags.f_contiguous
    data: object = values.tolist() if values.dtype == object else values.tobytes(order="A")
    state = (1, values.shape, _dtype(values.dtype), column_major, data)
    return Call(Name("numpy.core.multiarray", "_reconstruct"), (Name("numpy", "ndarray"), (0,), b"b"), state)


def frame(names: list[str], blocks: list[tuple[np.ndarray, object]], module: str = "pandas.indexes.base") -> Call:
    """A data frame of blocks (values (k, N), places in the frame: a slice or an array of integers)."""
    columns = index(np.array(names, object), module)
    rows = index(np.arange(blocks[0][0].shape[1]), module)
    values = [array(block) for block, _ in blocks]
    places = [array(place) if isinstance(place, np.ndarray) else place for _, place in blocks]
    pairs = zip(values, places, strict=True)
    extra = {"0.14.1": {"axes": [columns, rows], "blocks": [{"values": v, "mgr_locs": p} for v, p in pairs]}}
    manager = Call(Name("pandas.core.internals", "BlockManager"), (), ([columns, rows], values, [columns], extra), True)
    state = {"_metadata": [], "_typ": b"dataframe", "_data": manager}
    return Call(Name("pandas.core.frame", "DataFrame"), (), state, new=True)


def index(values: np.ndarray, module: str = "pandas.indexes.base") -> Call:
    """A pandas Index."""
    return Call(Name(module, "_new_Index"), (Name(module, "Index"), {b"data": array(values), b"name": None}))


def places(start: int, stop: int, step: int = 1) -> Call:
    """A slice."""
    return Call(Name("__builtin__", "slice"), (start, stop, step))


def _dtype(dtype: np.dtype[Any]) -> Call:
    order, flags = dtype.str[0], 63 if dtype.hasobject else 0
    state = (3, order.encode(), None, None, None, -1, -1, flags)
    return Call(Name("numpy", "dtype"), ((dtype.kind + str(dtype.itemsize)).encode(), 0, 1), state)


def _encode(value: object, memo: dict[int, int]) -> bytes:
    match value:
        case tuple():
            return b"(" + _all(value, memo) + b"t"
        case list():
            return b"](" + _all(value, memo) + b"e"
        case dict():
            return b"}(" + _all([item for pair in value.items() for item in pair], memo) + b"u"
        case Name():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            if id(value) in memo:
                return b"h" + bytes([memo[id(value)]])
            made = _all([value.called, value.args], memo) + (b"\x81" if value.new else b"R")
            memo[id(value)] = len(memo)
            kept = made + b"q" + bytes([memo[id(value)]])
            return kept if value.state is None else kept + _encode(value.state, memo) + b"b"
    return _encode_constant(value)


def _all(values: Iterable[object], memo: dict[int, int]) -> bytes:
    return b"".join(_encode(value, memo) for value in values)


def _encode_constant(value: object) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case bytes():  # Python 2's str
            return b"T" + struct.pack("<i", len(value)) + value
        case str():  # its unicode
            return b"X" + struct.pack("<i", len(value.encode())) + value.encode()
    raise TypeError(type(value))
