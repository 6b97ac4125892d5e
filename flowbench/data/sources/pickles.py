"""Pickles that others wrote, read without trusting them: arrays come out, and nothing runs.

A pickle is a program that may call whatever it can name. Here every name that it may use is on a list and stands for an
inert object that remembers its arguments and does nothing; any other name, and any instruction that arrays do not need,
is refused. Once the program has ended, `array` and `frame` take numbers out of what the inert objects remember, and
numpy's and pandas' own reconstruction is never called. So a pickle costs the memory of its own length, whatever it
claims; and a data frame of 2017 can be read, whose classes pandas no longer has.

The instructions are run by Python's own unpickler, the one that is written in Python: of its table of instructions a
part can be taken away, and no number in a pickle makes it allocate memory, as the memo of the one in C does.

Pickles of Python 2 and 3 are read, protocols 0 to 5.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from functools import partial
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
    r"numpy\._?core\.multiarray\._reconstruct": _Array,
    r"numpy\._?core\.numeric\._frombuffer": _Buffer,
    r"numpy\.dtype": _Dtype,
    r"numpy\.ndarray": _Name,
    r"_codecs\.encode|__builtin__\.bytes": _Encoded,  # bytes, as Python 3 writes them for Python 2
    r"(__builtin__|builtins)\.slice": _Slice,
    # pandas 0.14.1 to 0.25, under the names that its modules had
    r"pandas\.core\.frame\.DataFrame": _Frame,
    r"pandas\.core\.internals(\.managers)?\.BlockManager": _Blocks,
    r"pandas\.(core\.index|(core\.)?indexes\.base)\._new_Index": _Index,
    r"pandas\.(core\.index|(core\.)?indexes\.(base|numeric|range))\.(Int64|Range)?Index": _Name,
}
"""What a whole name must match, and what it stands for."""

_NEEDED = """
    PROTO FRAME STOP MARK POP POP_MARK DUP GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
_INSTRUCTIONS = frozenset(_NEEDED.split())
_MOST_TUPLES = 10_000  # hashing tuples in tuples recurses in C: more of them could exhaust its stack
_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]")


class _Stream(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if size is not None and len(content) < size:
            raise EOFError("it is cut short")
        return content


class _Unpickler(pickle._Unpickler):
    def __init__(self, content: bytes, origin: Path) -> None:
        # Python 2's str becomes text of code points 0 to 255: `_bytes` turns those that were data back
        super().__init__(_Stream(content), encoding="latin1")
        self._origin = origin
        self._tuples = 0

    def find_class(self, module: str, name: str) -> type[_Inert]:
        for pattern, stand_in in _ALLOWED.items():
            if re.fullmatch(pattern, f"{module}.{name}"):
                return stand_in
        raise _refusal(self._origin, f"names {module}.{name}")

    def run(self, instruction: str, code: int) -> None:
        """Run an instruction as Python does, if arrays need it."""
        if instruction not in _INSTRUCTIONS:
            raise _refusal(self._origin, f"has the instruction {instruction}")
        self._tuples += instruction.startswith("TUPLE")
        if self._tuples > _MOST_TUPLES:
            raise _refusal(self._origin, f"has more than {_MOST_TUPLES:,} tuples")
        if instruction == "BYTEARRAY8":  # of which Python allocates whatever length is claimed; bytes it reads
            code = pickle.BINBYTES8[0]
        pickle._Unpickler.dispatch[code](self)  # type: ignore[arg-type]  # typed for the one in C


_Unpickler.dispatch = {
    ord(known.code): partial(_Unpickler.run, instruction=known.name, code=ord(known.code))
    for known in pickletools.opcodes
}


def load(content: bytes, origin: Path) -> object:
    """What the pickle ``content`` (from the file ``origin``) describes: numbers, text, lists, tuples and dicts as they
    are, and inert objects for what `array` and `frame` read.

    Raises:
        DataError: it is damaged, or holds anything else than arrays; nothing of it was run.
    """
    with reading(origin):
        try:
            return _Unpickler(content, origin).load()
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a wrong program may fail in any way
            raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from error


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
