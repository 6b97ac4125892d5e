"""exp and tanh in forms that become vector instructions, in the precision of what they are given.

Single precision has half the terms and twice the numbers in a vector: in double these two functions were most of what
is done between a network's products.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy import float32

OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}
"""Of the liberties of fast mathematics only this one: NaN and infinities keep their meaning."""


@intrinsic
def like(context, value, x):
    """``value`` as a number of x's type: constants of Python are doubles, and what they touch becomes one."""

    def cast(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], signature.args[0], signature.return_type)

    return x(value, x), cast


@intrinsic
def _power_of_two(context, shifted):
    """2ᵏ, where the last bits of ``shifted`` hold k."""
    width, mantissa, one = (32, 23, 127) if shifted == types.float32 else (64, 52, 1023)

    def shift(context, builder, signature, arguments):
        integer = ir.IntType(width)
        bits = builder.bitcast(arguments[0], integer)
        bits = builder.add(builder.shl(bits, integer(mantissa)), integer(one << mantissa))
        return builder.bitcast(bits, arguments[0].type)

    return shifted(shifted), shift


def _parts(x):
    """exp(r) − 1, and a number whose last bits hold k, for x = k·log 2 + r with |r| ≤ log(2)/2.

    By a Taylor polynomial, so without a table.
    """
    raise NotImplementedError("it is compiled into others")


def _parts_double(x):  # the first term neglected is 4e-18
    x = 710.0 if x > 710.0 else x  # 2¹⁰²⁴ is infinity
    x = -708.0 if x < -708.0 else x
    shifted = x * 1.4426950408889634 + 6755399441055744.0  # 1.5·2⁵²: k is left in the last bits
    k = shifted - 6755399441055744.0
    r = x - k * 0.6931471805599453 - k * 2.3190468138462996e-17
    square = r * r
    fourth = square * square
    low = r + square * (0.5 + r * (1 / 6))
    middle = ((1 / 24) + r * (1 / 120)) + square * ((1 / 720) + r * (1 / 5040))
    high = ((1 / 40320) + r * (1 / 362880)) + square * ((1 / 3628800) + r * (1 / 39916800))
    top = (1 / 479001600) + r * (1 / 6227020800)
    return low + fourth * (middle + fourth * (high + fourth * top)), shifted


def _parts_single(x):  # the first term neglected is 5e-9
    x = float32(89) if x > float32(89) else x  # 2¹²⁸ is infinity
    x = float32(-87) if x < float32(-87) else x
    shifted = x * float32(1.4426950408889634) + float32(12582912)  # 1.5·2²³
    k = shifted - float32(12582912)
    r = x - k * float32(0.693359375) - k * float32(-2.121944400546905e-4)  # log 2 in two: k times the first is exact
    square = r * r
    low = r + square * (float32(0.5) + r * float32(1 / 6))
    high = (float32(1 / 24) + r * float32(1 / 120)) + square * (float32(1 / 720) + r * float32(1 / 5040))
    return low + square * square * high, shifted


_TOP_DOUBLE, _TOP_SINGLE = 6755399441055744.0 + 1023, 12582912.0 + 127
"""``shifted`` of the greatest power of two that is finite."""


@intrinsic
def is_single(context, x):
    """Whether x is of single precision, known when a kernel is compiled."""

    def constant(context, builder, signature, arguments):
        return context.get_constant(types.boolean, signature.args[0] == types.float32)

    return types.boolean(x), constant


@overload(_parts, jit_options=OPTIONS)
def _parts_of(x):
    return _parts_single if x == types.float32 else _parts_double


@njit(**OPTIONS)
def exp(x):
    """exp(x) to the last bit or two, up to where the type ends; below −708, or −87 in single precision, exp of that.

    Past x = (kmax − ½)·log 2 the power of two alone would be infinite, while exp(x) is not: there it is taken in two.
    """
    rest, shifted = _parts(x)
    top = like(_TOP_SINGLE, x) if is_single(x) else like(_TOP_DOUBLE, x)
    beyond = shifted > top
    power = _power_of_two(top if beyond else shifted)
    found = power * (like(1, x) + rest)  # not power + power·rest: at the upper end that is ∞ − ∞
    return found + found if beyond else found


@njit(**OPTIONS)
def tanh(x):
    """tanh(x) to the last few bits: (e − 1)/(e + 1) with e = exp(2x), whose e − 1 loses no digits at zero."""
    end = like(20, x)  # there it is 1
    x = end if x > end else x
    x = -end if x < -end else x
    rest, shifted = _parts(x + x)
    power = _power_of_two(shifted)
    less_one = (power - like(1, x)) + power * rest
    return less_one / (less_one + like(2, x))
