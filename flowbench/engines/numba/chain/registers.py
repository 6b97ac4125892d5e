"""The product that chains spend their time in, a tile of it in the processor's registers.

A loop over a few rows loads and stores each sum once for every few multiplications. A tile of sums that stays in
registers while the products run through it is three times as fast, and no loop that numba is given becomes one: here
the instructions are written out. Places in memory are addresses (bytes), pitches between rows are counted in numbers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from flowbench.engines.numba.elementary import size_of
from flowbench.engines.numba.tiles import BYTES
from flowbench.engines.numba.vectors import address_of, jit

WIDE = 4 if BYTES == 64 else 2
"""Vectors of a tile side by side: six rows of two fill the registers of AVX2, six of four those of AVX-512. Twice as
many where there are but one or two rows: a few sums would wait for each other."""

ZEROS, BIASES, SUMS = 0, 1, 2
"""What sums begin with: nothing, a number for each row, or what is there."""

_INDEX, _LANE = ir.IntType(64), ir.IntType(32)


class _Numbers:
    """Instructions on vectors of one type of number."""

    def __init__(self, builder, bits):
        self.builder = builder
        self.lanes, self.size = BYTES * 8 // bits, bits // 8
        self.number = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.number, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def offset(self, base, *terms):
        """A place so many numbers behind a base; a term is an index, or (index, constant)."""
        for term in terms:
            index, times = term if isinstance(term, tuple) else (term, 1)
            times = ir.Constant(_INDEX, times * self.size)
            base = self.builder.add(base, self.builder.mul(index, times))
        return base

    def load(self, address, kind):
        return self.builder.load(self.builder.inttoptr(address, kind.as_pointer()), align=self.size)

    def store(self, value, address):
        self.builder.store(value, self.builder.inttoptr(address, self.vector.as_pointer()), align=self.size)

    def prefetch(self, address):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), _LANE, _LANE, _LANE])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        to_write, soon, data = (ir.Constant(_LANE, number) for number in (1, 3, 1))
        place = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        self.builder.call(function, [place, to_write, soon, data])

    def spread(self, number):
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.Constant(_LANE, 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_LANE, self.lanes), None))

    def add_product(self, register, a, b):
        product = self.builder.fmul(a, b, flags=("contract",))
        self.builder.store(self.builder.fadd(self.builder.load(register), product, flags=("contract",)), register)

    def at_least(self, value, floor):
        """NaN stays."""
        return self.builder.select(self.builder.fcmp_ordered("<", value, floor), floor, value)


def _tile(rows, vectors):  # noqa: C901  # one instruction after the other
    """Out[i, n] = max(begin[i, n] + Σₖ a[i, k]·b[k, n], floor) for i < rows and so many vectors of n.

    ``out`` and ``b`` are (address, pitch), ``a`` is (address, pitch of i, pitch of k), ``begin`` (what, address of
    biases).
    """

    @intrinsic
    def product(_, out, a, b, begin, count, floor):
        def instructions(context, builder, signature, arguments):
            t = _Numbers(builder, signature.args[5].bitwidth)
            unpacked = [cgutils.unpack_tuple(builder, argument) for argument in arguments[:4]]
            (out, out_pitch), (a, a_row, a_column), (b, b_pitch), (what, biases) = unpacked
            index = [ir.Constant(_INDEX, i) for i in range(max(rows, vectors * t.lanes) + 1)]
            places = [
                t.offset(out, builder.mul(out_pitch, index[i]), index[v * t.lanes])
                for i in range(rows)
                for v in range(vectors)
            ]
            sums = [cgutils.alloca_once(builder, t.vector) for _ in places]
            for register in sums:
                builder.store(t.zero, register)
            with builder.if_then(builder.icmp_signed("==", what, index[1])):
                for i in range(rows):
                    bias = t.spread(t.load(t.offset(biases, index[i]), t.number))
                    for v in range(vectors):
                        builder.store(bias, sums[i * vectors + v])
            with builder.if_then(builder.icmp_signed("==", what, ir.Constant(_INDEX, SUMS))):
                for register, place in zip(sums, places, strict=True):
                    builder.store(t.load(place, t.vector), register)
            for place in places:  # what is written next is on its way meanwhile
                t.prefetch(t.offset(place, index[vectors * t.lanes]))
            starts = [t.offset(a, builder.mul(a_row, index[i])) for i in range(rows)]
            with cgutils.for_range(builder, arguments[4]) as loop:
                row = t.offset(b, builder.mul(b_pitch, loop.index))
                values = [t.load(t.offset(row, index[v * t.lanes]), t.vector) for v in range(vectors)]
                along = builder.mul(a_column, loop.index)
                for i in range(rows):
                    weight = t.spread(t.load(t.offset(starts[i], along), t.number))
                    for v in range(vectors):
                        t.add_product(sums[i * vectors + v], weight, values[v])
            lowest = t.spread(arguments[5])
            for register, place in zip(sums, places, strict=True):
                t.store(t.at_least(builder.load(register), lowest), place)
            return context.get_dummy_value()

        return types.void(out, a, b, begin, count, floor), instructions

    return product


@intrinsic
def copy_eight(_, out, address, zero):
    """Eight numbers from one address to another."""

    def instructions(context, builder, signature, arguments):
        kind = ir.VectorType(context.get_value_type(signature.args[2]), 8)
        places = [builder.inttoptr(address, kind.as_pointer()) for address in arguments[:2]]
        size = signature.args[2].bitwidth // 8
        builder.store(builder.load(places[1], align=size), places[0], align=size)
        return context.get_dummy_value()

    return types.void(out, address, zero), instructions


_six, _six_narrow = _tile(6, WIDE), _tile(6, 1)
_four, _four_narrow = _tile(4, WIDE), _tile(4, 1)
_two, _two_narrow = _tile(2, 2 * WIDE), _tile(2, 1)
_one, _one_narrow = _tile(1, 2 * WIDE), _tile(1, 1)


@jit
def group_of(count):
    """How many of so many rows are taken at once."""
    return 6 if count >= 6 else 4 if count >= 4 else 2 if count >= 2 else 1


def _product(rows, out, out_pitch, a, a_row, a_column, b, b_pitch, what, biases, count, width, floor):
    """The tile's product for 6, 4, 2 or 1 rows and ``width`` numbers of each, which vectors divide."""
    size = size_of(floor)
    lanes = BYTES // size
    step = (WIDE if rows > 2 else 2 * WIDE) * lanes
    a_place, begin, n = (a, a_row, a_column), (what, biases), 0
    while n < width:
        here, below = (out + n * size, out_pitch), (b + n * size, b_pitch)
        if width - n >= step:
            if rows == 6:
                _six(here, a_place, below, begin, count, floor)
            elif rows == 4:
                _four(here, a_place, below, begin, count, floor)
            elif rows == 2:
                _two(here, a_place, below, begin, count, floor)
            else:
                _one(here, a_place, below, begin, count, floor)
            n += step
        else:
            if rows == 6:
                _six_narrow(here, a_place, below, begin, count, floor)
            elif rows == 4:
                _four_narrow(here, a_place, below, begin, count, floor)
            elif rows == 2:
                _two_narrow(here, a_place, below, begin, count, floor)
            else:
                _one_narrow(here, a_place, below, begin, count, floor)
            n += lanes


def product_address(dtype):
    """Where the product's code is, in the precision of a dtype of numpy's.

    What calls it is compiled apart from it: as a function like others it would be compiled again into each of them.
    """
    return address_of(_product, dtype, integers=12)


@intrinsic
def call(_, address, integers, numbers):
    """Call the function at an address with a tuple of integers, and then of other numbers."""

    def instructions(context, builder, signature, arguments):
        found = [value for packed in arguments[1:] for value in cgutils.unpack_tuple(builder, packed)]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in found])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), found)
        return context.get_dummy_value()

    return types.void(address, integers, numbers), instructions


@jit
def product(code, rows, out, a, b, begin, count, width, floor):
    """The product at an address, see `product_address`, for 6, 4, 2 or 1 rows and a width that vectors divide."""
    places = out[0], out[1], a[0], a[1], a[2], b[0], b[1]
    call(code, (rows, *places, begin[0], begin[1], count, width), (floor,))
