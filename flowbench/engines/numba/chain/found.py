"""Tables, memory and numbers found again by their addresses, in kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
from numba import carray, types
from numba.extending import intrinsic

from flowbench.engines.numba.chain.tables import LEVEL, STAGE, Chain, Memory
from flowbench.engines.numba.elementary import size_of
from flowbench.engines.numba.vectors import jit

_STAGE, _LEVEL = (numba.from_dtype(kind) for kind in (STAGE, LEVEL))
ALL = 1 << 40
"""The length of what is not known to be shorter."""


class Tile(NamedTuple):
    """Some rows of data on their way: where their part of the memory begins, and its shape.

    Of one row of data alone the units of a level lie side by side, at a pitch of 1, and vectors run along them.
    """

    base: int
    pitch: int
    width: int
    """How much of a row of memory vectors take."""
    rows: int
    zero: float
    """Of the precision in which it is worked."""
    product: int
    """The address of `registers.product`."""


def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def pointer(_, address):
        def cast(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())

        return types.CPointer(kind)(address), cast

    return pointer


_stages_at, _levels_at = _pointer_to(_STAGE), _pointer_to(_LEVEL)
_integers_at, _doubles_at = _pointer_to(types.int64), _pointer_to(types.float64)


@intrinsic
def _numbers_at(_, address, number):
    def cast(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(number).as_pointer())

    return types.CPointer(number)(address, number), cast


@jit
def numbers(address, count, zero):
    """So many numbers of the precision of ``zero`` at an address."""
    return carray(_numbers_at(address, zero), (count,))


@jit
def integers(address, count):
    """So many integers at an address."""
    return carray(_integers_at(address), (count,))


@jit
def chain_at(address):
    """See `Chain.addresses`."""
    at = integers(address, 24)
    stages, levels = carray(_stages_at(at[0]), (at[1],)), carray(_levels_at(at[2]), (at[3],))
    units = integers(at[4], at[5]), integers(at[6], at[7]), integers(at[8], at[9]), integers(at[10], at[11])
    below = integers(at[14], at[15]), integers(at[16], at[17])
    places, columns, segments = integers(at[12], at[13]), integers(at[18], at[19]), integers(at[20], at[21])
    return Chain(stages, levels, *units, places, *below, columns, segments, at[22], at[23])


@jit
def memory_at(address, dim, zero):
    """See `Memory.addresses`."""
    at = integers(address, 17)
    tiles = at[3] - 1
    norms = at[5]
    return Memory(
        numbers(at[0], at[1], zero),
        integers(at[2], at[3]),
        carray(_doubles_at(at[4]), (norms, 2, dim)),
        carray(_doubles_at(at[6]), (2, tiles, norms, 2, dim)),
        carray(_numbers_at(at[8], zero), (at[9], at[12])),
        carray(_numbers_at(at[10], zero), (at[11], at[13])),
        at[14],
        at[15],
        at[16],
    )


@jit
def row_of(tile, row):
    """A row of memory, as wide as vectors take."""
    return numbers(tile.base + row * tile.pitch * size_of(tile.zero), tile.width, tile.zero)


@jit
def rows_of(tile, row, count):
    """Rows of memory that lie one behind the other, with what lies between them."""
    return numbers(tile.base + row * tile.pitch * size_of(tile.zero), count * tile.pitch, tile.zero)


@jit
def place(tile, row):
    """The address of a row of memory."""
    return tile.base + row * tile.pitch * size_of(tile.zero)


@jit
def copy(out, values):
    """Out becomes the values."""
    for n in range(len(out)):
        out[n] = values[n]


@jit
def fill(out, number):
    """Out becomes a number."""
    for n in range(len(out)):
        out[n] = number
