"""Pickles that others wrote, read without trusting them: arrays come out, and nothing runs.

A pickle is a program that may call whatever it can name. Here every name that it may use is on a list and stands for an
inert object that remembers its arguments and does nothing; any other name, and any instruction that arrays do not need,
is refused. Once the program has ended, `array` and `frame` take numbers out of what the inert objects remember, and
numpy's and pandas' own reconstruction is never called. So a pickle costs the memory of its own length, whatever it
claims; and a data frame of 2017 can be read, whose classes pandas no longer has.

Read are the pickles of Python 2 and 3, protocols 0 to 5.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flowbench.data.dataset import RawArray
from flowbench.data.sources.raw import reading
from flowbench.errors import DataError


class _Inert:
    """What a name in a pickle stands for, called or not."""

    __slots__ = ("args", "state")
    __match_args__ = ("args", "state")
    args: tuple[object, ...]
    state: object

    def __new__(cls, *args: object) -> _Inert:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: object) -> None:
        # were it missing, the state's items would become attributes, of any name
        self.state = state


class _Array(_Inert): ...


class _Buffer(_Inert): ...


class _Dtype(_Inert): ...


class _Encoded(_Inert): ...


class _Slice(_Inert): ...


class _Index(_Inert): ...


class _Blocks(_Inert): ...


class _Frame(_Inert): ...


class _Name(_Inert): ...


_ALLOWED: dict[str, type[_Inert]] = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.core.numeric._frombuffer": _Buffer,
    "numpy._core.numeric._frombuffer": _Buffer,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Name,
    "_codecs.encode": _Encoded,  # bytes, as Python 3 writes them for Python 2
    "__builtin__.bytes": _Encoded,
    "__builtin__.slice": _Slice,
    "builtins.slice": _Slice,
    # pandas 0.14.1 to 0.25, under the names that its modules had
    "pandas.core.frame.DataFrame": _Frame,
    "pandas.core.internals.BlockManager": _Blocks,
    "pandas.core.internals.managers.BlockManager": _Blocks,
    **{
        f"pandas.{module}.{name}": stand_in
        for module, names in {
            "core.index": ("_new_Index", "Index", "Int64Index", "RangeIndex"),
            "indexes.base": ("_new_Index", "Index"),
            "indexes.numeric": ("Int64Index",),
            "indexes.range": ("RangeIndex",),
            "core.indexes.base": ("_new_Index", "Index"),
            "core.indexes.numeric": ("Int64Index",),
            "core.indexes.range": ("RangeIndex",),
        }.items()
        for name in names
        for stand_in in [_Index if name == "_new_Index" else _Name]
    },
}

_NEEDED = """
    PROTO FRAME STOP MARK POP POP_MARK DUP GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
_INSTRUCTIONS = frozenset(_NEEDED.split())
_BY_CODE = {instruction.code.encode("latin1"): instruction for instruction in pickletools.opcodes}
_MOST_TUPLES = 10_000  # hashing tuples in tuples recurses in C: more of them could exhaust its stack
_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]")


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, origin: Path) -> None:
        # Python 2's str becomes text of code points 0 to 255: `_bytes` turns those that were data back
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._origin = origin

    def find_class(self, module: str, name: str) -> type[_Inert]:
        stand_in = _ALLOWED.get(f"{module}.{name}")
        if stand_in is None:
            raise _refusal(self._origin, f"names {module}.{name}")
        return stand_in


def load(content: bytes, origin: Path) -> object:
    """What the pickle ``content`` (from the file ``origin``) describes: numbers, text, lists, tuples and dicts as they
    are, and inert objects for what `array` and `frame` read.

    Raises:
        DataError: it is damaged, or holds anything else than arrays; nothing of it was run.
    """
    with reading(origin):
        _inspect(content, origin)
        try:
            return _Unpickler(content, origin).load()
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a wrong program may fail in any way
            raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from error


def _inspect(content: bytes, origin: Path) -> None:
    """Refuse a program with instructions that arrays do not need, before the first is run."""
    tuples = 0
    for position, (name, argument) in enumerate(_instructions(io.BytesIO(content))):
        if name not in _INSTRUCTIONS:
            raise _refusal(origin, f"has the instruction {name}")
        # Python's memo is an array as long as the largest number in it
        if name.endswith("PUT") and int(argument) > position:
            raise _refusal(origin, f"numbers an object {argument}")
        tuples += name.startswith("TUPLE")
        if tuples > _MOST_TUPLES:
            raise _refusal(origin, f"has more than {_MOST_TUPLES:,} tuples")


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    """Each instruction's name and argument. `pickletools.genops` does so too, but for Python 2's text beyond ASCII."""
    name = ""
    while name != "STOP":
        instruction = _BY_CODE.get(stream.read(1))
        if instruction is None:
            raise ValueError(f"no pickle, or one cut short, at byte {stream.tell()}")
        name = instruction.name
        if name == "STRING":
            yield name, stream.readline()
        else:
            yield name, instruction.arg.reader(stream) if instruction.arg else None


def _refusal(origin: Path, what: str) -> DataError:
    hint = (
        "nothing of it was run: get it again and compare its checksum with the source's, "
        "or take the publisher's own files, which come first where both are"
    )
    return DataError(f"{origin}: its pickle {what}, which no pickle of arrays does: refused", hint)


def array(loaded: object) -> RawArray:
    """The numeric array that a part of `load`'s result describes.

    Raises:
        ValueError: it describes none, or its shape and its data disagree.
    """
    match loaded:
        case _Array(_, (int(), shape, dtype, column_major, data)):
            pass
        case _Buffer((data, dtype, shape, order), _):
            column_major = order == "F"
        case _:
            raise ValueError("its pickle has no array where one is expected")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and 0 <= n < 2**31 for n in shape):
        raise ValueError("its pickle has an array without a shape")
    kind, content = _dtype(dtype), _bytes(data)
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"its pickle has an array of shape {shape} and type {kind}, but {len(content)} bytes for it")
    return np.frombuffer(content, kind).reshape(shape, order="F" if column_major else "C")


def frame(loaded: object) -> dict[str, RawArray]:
    """The columns (N,) by name of the pandas data frame that a part of `load`'s result describes.

    pandas 0.14.1 to 0.25 keep columns of one type together as the rows of a block, with their places in the frame.

    Raises:
        ValueError: it describes none.
    """
    match loaded:
        case _Frame(_, {"_data": _Blocks(_, (_, _, _, {"0.14.1": {"axes": [columns, *_], "blocks": list(blocks)}}))}):
            names = _names(columns)
        case _:
            raise ValueError("its pickle has no data frame of pandas 0.14.1 to 0.25 where one is expected")
    found: dict[str, RawArray] = {}
    for block in blocks:
        match block:
            case {"values": values, "mgr_locs": places}:
                rows, at = array(values), _places(places, len(names))
            case _:
                raise ValueError("its pickle has a data frame with a block of another kind")
        if rows.ndim != 2 or len(rows) != len(at):
            raise ValueError(f"its pickle has a block of shape {rows.shape} for {len(at)} columns")
        found |= {names[i]: row for i, row in zip(at, rows, strict=True)}
    if sorted(found) != sorted(names) or len({len(column) for column in found.values()}) > 1:
        raise ValueError("its pickle has a data frame whose blocks are not its columns")
    return {name: found[name] for name in names}


def _dtype(loaded: object) -> np.dtype[Any]:
    match loaded:
        case _Dtype((str(code), *_), (3, ("<" | ">" | "=" | "|") as order, None, None, None, *_)):
            if _NUMERIC.fullmatch(code):
                return np.dtype(order + code)
    raise ValueError("its pickle has an array of something else than numbers")


def _bytes(loaded: object) -> bytes | bytearray:
    match loaded:
        case bytes() | bytearray():
            return loaded
        case str() | _Encoded((str(), "latin1" | "latin-1"), _):
            return (loaded if isinstance(loaded, str) else str(loaded.args[0])).encode("latin1")
        case _Encoded((), _):
            return b""
    raise ValueError("its pickle has an array without data")


def _names(index: object) -> list[str]:
    match index:
        case _Index((_, {"data": _Array(_, (int(), (int(),), _Dtype(("O8" | "O", *_), _), _, list(names)))}), _):
            if all(isinstance(name, str) for name in names):
                return [str(name) for name in names]
    raise ValueError("its pickle has a data frame whose columns have no names")


def _places(places: object, n: int) -> list[int]:
    match places:
        case _Slice((int() | None, int() | None, int() | None) as bounds, _):
            at = list(range(*slice(*bounds).indices(n)))
        case _:
            at = [int(i) for i in array(places)]
    if not all(0 <= i < n for i in at):
        raise ValueError("its pickle has a data frame with a block of columns that it has not")
    return at
