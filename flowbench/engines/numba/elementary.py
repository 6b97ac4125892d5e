"""exp, tanh and log in forms that become vector instructions, in the precision of what they are given.

Single precision has half the terms and twice the numbers in a vector: in double exp and tanh were most of what
is done between a network's products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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


@intrinsic
def size_of(context, x):
    """Its bytes, known when a kernel is compiled."""

    def constant(context, builder, signature, arguments):
        return context.get_constant(types.int64, signature.args[0].bitwidth // 8)

    return types.int64(x), constant


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


@intrinsic
def _mantissa(context, x):
    """The m in [√½, √2) of x = 2ᵏ·m, where x is positive and normal."""

    def split(context, builder, signature, arguments):
        integer, bits, _, root = _bits(builder, arguments[0])
        mask = integer((1 << _FIELDS[integer.width][0]) - 1)
        return builder.bitcast(builder.add(builder.and_(bits, mask), root), arguments[0].type)

    return x(x), split


@intrinsic
def _exponent(context, x):
    """The k of the same."""

    def split(context, builder, signature, arguments):
        integer, bits, one, _ = _bits(builder, arguments[0])
        bits = builder.sub(bits, integer(one.constant))
        return builder.sitofp(builder.ashr(bits, integer(_FIELDS[integer.width][0])), arguments[0].type)

    return x(x), split


_FIELDS = {32: (23, 0x3F800000, 0x3F3504F3), 64: (52, 0x3FF0000000000000, 0x3FE6A09E667F3BCD)}
"""Of a float of so many bits: those of its fraction, 1, and √½."""


def _bits(builder, x):
    """Its integer type, its bits with √½ where 1 is, and the bits of 1 and √½."""
    integer = ir.IntType(32 if isinstance(x.type, ir.FloatType) else 64)
    _, one, root = (integer(number) for number in _FIELDS[integer.width])
    bits = builder.add(builder.bitcast(x, integer), integer(one.constant - root.constant))
    return integer, bits, one, root


@njit(**OPTIONS)
def log(x):
    """log(x) to the last bit or two of what is positive and normal; NaN and infinity stay."""
    m, k = _mantissa(x), _exponent(x)
    s = (m - like(1, x)) / (m + like(1, x))
    square = s * s  # up to 0.0295: log m = 2·artanh(s)
    rest = like(1 / 7, x) + square * (like(1 / 9, x) + square * like(1 / 11, x))
    if not is_single(x):
        square_2 = square * square
        high = like(1 / 13, x) + square * like(1 / 15, x) + square_2 * (like(1 / 17, x) + square * like(1 / 19, x))
        rest += square * square_2 * high
    rest = like(1 / 3, x) + square * (like(1 / 5, x) + square * rest)
    found = k * like(0.6931471805599453, x) + (s + s + (s + s) * square * rest)
    return found if x < like(np.inf, x) else x


@njit(**OPTIONS)
def softplus(x, small):
    """log(1 + exp(x)), given exp(−|x|), without losing digits where it is small.

    A loop of its own takes the exponential: with both functions in one, the compiler leaves vectors out.
    """
    whole = like(1, x) + small
    found = log(whole) + (small - (whole - like(1, x)))
    return found + (x if x > like(0, x) else like(0, x))


@njit(**OPTIONS)
def sigmoid(x):
    """1/(1 + exp(−x)), the slope of softplus."""
    return like(1, x) / (like(1, x) + exp(-x))
