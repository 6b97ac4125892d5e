"""The product that kernels spend their time in, a tile at a time, in the processor's registers.

Loops over a few rows load and store each result once for every few multiplications. A tile of sums that stays in
registers while the products run through it is twice as fast, and no loop that numba is given becomes one: here the
instructions are written out, of vectors whose lanes beyond the last row of data are masked.

Arrays are two-dimensional with any strides, but in memory the data's rows (the second axis) follow each other.
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_AVX512 = binding.get_host_cpu_features().get("avx512f", False)

BYTES, VECTORS = (64, 4) if _AVX512 else (32, 2)
"""The size of a vector, and how many of them side by side four rows of sums leave registers for."""

_INDEX, _LANE = ir.IntType(64), ir.IntType(32)


class _Tile:
    """What the product is written in: addresses in arrays, and masked vectors."""

    def __init__(self, context, builder, arrays):
        self.builder, self._context = builder, context
        dtype = arrays[0][0].dtype
        self.lanes = BYTES * 8 // dtype.bitwidth
        self.number = context.get_value_type(dtype)
        self.vector = ir.VectorType(self.number, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self._mask = ir.VectorType(ir.IntType(1), self.lanes)
        self._size = ir.Constant(_LANE, dtype.bitwidth // 8)
        self._suffix = f"v{self.lanes}f{dtype.bitwidth}.p0"
        self.arrays = [context.make_array(kind)(context, builder, array) for kind, array in arrays]

    def index(self, number):
        return ir.Constant(_INDEX, number)

    def plus(self, index, number):
        return self.builder.add(index, self.index(number))

    def at_most(self, index, last):
        return self.builder.select(self.builder.icmp_signed("<", index, last), index, last)

    def length(self, array, axis):
        return cgutils.unpack_tuple(self.builder, self.arrays[array].shape, 2)[axis]

    def address(self, array, row, column, kind):
        builder, whole = self.builder, self.arrays[array]
        down, right = cgutils.unpack_tuple(builder, whole.strides, 2)
        offset = builder.add(builder.mul(row, down), builder.mul(column, right))
        return builder.inttoptr(builder.add(builder.ptrtoint(whole.data, _INDEX), offset), kind.as_pointer())

    def inside(self, start, stop):
        """The mask of those lanes from ``start`` on that come before ``stop``."""
        lanes = ir.Constant(ir.VectorType(_INDEX, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", lanes, self.spread(self.builder.sub(stop, start)))

    def spread(self, number):
        kind = ir.VectorType(number.type, self.lanes)
        empty = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.Constant(_LANE, 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_LANE, self.lanes), None))

    def load(self, address, mask):
        kind = ir.FunctionType(self.vector, [self.vector.as_pointer(), _LANE, self._mask, self.vector])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.load.{self._suffix}")
        return self.builder.call(function, [address, self._size, mask, self.zero])

    def store(self, value, address, mask):
        kind = ir.FunctionType(ir.VoidType(), [self.vector, self.vector.as_pointer(), _LANE, self._mask])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.store.{self._suffix}")
        self.builder.call(function, [value, address, self._size, mask])

    def sums(self, values):
        """Registers for sums that begin with these values."""
        registers = [cgutils.alloca_once(self.builder, self.vector) for _ in values]
        for register, value in zip(registers, values, strict=True):
            self.builder.store(value, register)
        return registers

    def add_product(self, register, a, b):
        product = self.builder.fmul(a, b, flags=("contract",))
        self.builder.store(self.builder.fadd(self.builder.load(register), product, flags=("contract",)), register)


def _product(units):
    """Out[first + i, n] += Σₖ weights[unit + i, k]·below[row + k, n] for i < units and VECTORS vectors from n = lo."""

    @intrinsic
    def tile(_, out, first, weights, unit, below, row, lo, hi):
        def instructions(context, builder, signature, arguments):
            t = _Tile(context, builder, [(signature.args[i], arguments[i]) for i in (0, 2, 4)])
            _, first, _, unit, _, row, lo, hi = arguments
            last = t.plus(t.length(1, 0), -1)
            # where there are fewer, the last row is there more than once: sums are read before any is written
            units_here = [t.at_most(t.plus(unit, i), last) for i in range(units)]
            rows = [builder.add(first, builder.sub(own, unit)) for own in units_here]
            starts = [t.plus(lo, v * t.lanes) for v in range(VECTORS)]
            vectors = [(start, t.inside(start, hi)) for start in starts]
            places = [(t.address(0, own, start, t.vector), mask) for own in rows for start, mask in vectors]
            sums = t.sums([t.load(*place) for place in places])
            with cgutils.for_range(builder, t.length(1, 1)) as loop:
                known = builder.add(row, loop.index)
                values = [t.load(t.address(2, known, start, t.vector), mask) for start, mask in vectors]
                for i, own in enumerate(units_here):
                    weight = t.spread(builder.load(t.address(1, own, loop.index, t.number)))
                    for v, value in enumerate(values):
                        t.add_product(sums[i * VECTORS + v], weight, value)
            for register, (address, mask) in zip(sums, places, strict=True):
                t.store(builder.load(register), address, mask)
            return context.get_dummy_value()

        return types.void(out, first, weights, unit, below, row, lo, hi), instructions

    return tile


product_of_four, product_of_two = _product(4), _product(2)
