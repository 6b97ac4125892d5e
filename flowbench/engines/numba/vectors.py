"""Loops that numba compiles to vector instructions: what the kernels for a CPU are made of.

Arrays are (units, N) or rows of them. They are always sliced before they are looped over, because an index that counts
from zero is not checked for being negative: only such loops become vector instructions. Some rows of a matrix, and some
of its columns, are given as (matrix, first, count, lo, hi): a slice of it would be strided for all the compiler knows.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np

from flowbench.engines.numba.elementary import OPTIONS, exp, like, tanh
from flowbench.engines.numba.tiles import BYTES, VECTORS, product_of_four, product_of_two
from flowbench.files import kernels_folder


def jit(function: Any, reorder_sums: bool = False) -> Any:
    """Compile on first use, once for each dtype, without a compiler on the user's machine; kept on disk."""
    liberties = OPTIONS["fastmath"] | ({"reassoc"} if reorder_sums else set())
    options = {**OPTIONS, "nogil": True, "fastmath": liberties}
    try:
        with _folder():
            return _kept_where_there_is_room(numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder can be written: compiled anew in each process
        return numba.njit(**options)(function)


@functools.cache
def address_of(function: Any, dtype: Any, integers: int, doubles: int = 0) -> int:
    """Where the code of a function is that takes integers, then doubles, then a number of a dtype of numpy's.

    It is compiled at once, and kept on disk as others are; callers know but its address and what it takes.
    """
    number = numba.float32 if dtype == np.float32 else numba.float64
    signature = numba.void(*[numba.int64] * integers, *[numba.float64] * doubles, number)
    try:
        with _folder():
            compiled = numba.cfunc(signature, cache=True, **OPTIONS)(function)
    except (RuntimeError, OSError):
        compiled = numba.cfunc(signature, **OPTIONS)(function)
    return int(compiled.address)


@contextmanager
def _folder() -> Iterator[None]:
    """Where kernels are kept: they hold those of other files, of which numba's own stamp knows nothing.

    So there is a folder for each state of them all.
    """
    folder = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(Path(folder or kernels_folder()) / f"numba-{_digest()}")
    try:
        yield
    finally:
        numba.config.CACHE_DIR = folder


def _kept_where_there_is_room(kernel: Any) -> Any:
    """The kernel, for which a disk that is full costs its keeping and not its use."""
    save = kernel._cache.save_overload

    def save_overload(signature: Any, compiled: Any) -> None:
        with suppress(OSError):
            save(signature, compiled)

    kernel._cache.save_overload = save_overload
    return kernel


@functools.cache
def _digest() -> str:
    """Of the kernels' sources, and of what they are written for."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    found = f"{os.name} {BYTES}".encode() + b"".join(source.read_bytes() for source in sources)
    return hashlib.sha256(found).hexdigest()[:16]


@jit
def log_scale(raw, affine):
    """``Affine``'s log-scale α of a raw parameter; ``affine`` is (gain, bound), and no bound is a bound of 0."""
    gain, limit = like(affine[0], raw), like(affine[1], raw)
    return limit * tanh(gain / limit * raw) if limit > 0 else gain * raw


@jit
def affine_map(x, shift, raw, affine, u, precision):
    """``Affine.forward``: u and the log-precision of x."""
    for n in range(len(x)):
        precision[n] = -log_scale(raw[n], affine)
    for n in range(len(x)):
        u[n] = (x[n] - shift[n]) * exp(precision[n])


@jit
def affine_inverse(u, shift, raw, affine, x, scale):
    """``Affine.inverse``: x and the log-scale of u."""
    for n in range(len(x)):
        scale[n] = log_scale(raw[n], affine)
    for n in range(len(x)):
        x[n] = u[n] * exp(scale[n]) + shift[n]


@jit
def pull_affine(u, precision, affine, grad_log_det, cotangent, grad_shift, grad_raw):
    """The gradient of ``affine_map``, from its image: a cotangent of u becomes one of x in place."""
    one = like(1, u[0])
    gain, squeeze = like(affine[0], one), like(1 / affine[1] ** 2 if affine[1] > 0 else 0, one)
    for n in range(len(u)):
        above = cotangent[n]
        bend = gain * (one - squeeze * precision[n] * precision[n])
        grad_raw[n] = -(above * u[n] + grad_log_det[n]) * bend
        cotangent[n] = above * exp(precision[n])
        grad_shift[n] = -cotangent[n]


@jit
def activate(h, is_tanh):
    """The hidden non-linearity in place: tanh, or else relu."""
    zero = h.dtype.type(0)
    if is_tanh:
        for n in range(len(h)):
            h[n] = tanh(h[n])
    else:
        for n in range(len(h)):
            h[n] = zero if h[n] < zero else h[n]  # NaN stays


@jit
def slope(cotangent, h, is_tanh):
    """What a cotangent becomes below the non-linearity whose output is h, in place."""
    zero, one = h.dtype.type(0), h.dtype.type(1)
    if is_tanh:
        for n in range(len(h)):
            cotangent[n] *= one - h[n] * h[n]
    else:
        for n in range(len(h)):
            cotangent[n] = cotangent[n] if h[n] > zero else zero


@jit
def add(out, number):
    """Out += a number."""
    for n in range(len(out)):
        out[n] += number


@jit
def accumulate(out, a):
    """Out += a."""
    for n in range(len(out)):
        out[n] += a[n]


@jit
def raise_to(out, a):
    """Out becomes the greater of each pair."""
    for n in range(len(out)):
        out[n] = a[n] if a[n] > out[n] else out[n]


@jit
def multiply(out, a):
    """Out *= a."""
    for n in range(len(out)):
        out[n] *= a[n]


@jit
def multiply_add(out, a, b):
    """Out += a * b."""
    for n in range(len(out)):
        out[n] += a[n] * b[n]


@jit
def row(rows, k):
    """One of some rows."""
    return rows[0][rows[1] + k, rows[3] : rows[4]]


@jit
def part(rows, first, count):
    """Some of some rows."""
    return rows[0], rows[1] + first, count, rows[3], rows[4]


@jit
def softmax(raw, out, total):
    """Of rows over the first axis; ``total`` (n,) is overwritten."""
    total[:] = row(raw, 0)
    for k in range(1, raw[2]):
        raise_to(total, row(raw, k))
    for k in range(raw[2]):
        exponential(row(raw, k), total, row(out, k))
    total[:] = 0
    for k in range(raw[2]):
        accumulate(total, row(out, k))
    one = like(1, total[0])
    for n in range(len(total)):
        total[n] = one / total[n]
    for k in range(raw[2]):
        multiply(row(out, k), total)


@jit
def exponential(values, top, out):
    """Out = exp(values − top)."""
    for n in range(len(out)):
        out[n] = exp(values[n] - top[n])


@jit
def add_product(out, first, weights, below, row, lo, hi):
    """Out[first : first + U, lo:hi] += weights (U, K) @ below[row : row + K, lo:hi]: 120 GFLOP/s on a core."""
    units, columns = len(weights), VECTORS * BYTES // out.itemsize
    unit = 0
    while unit < units:
        if units - unit > 2:
            for n in range(lo, hi, columns):
                product_of_four(out, first + unit, weights, unit, below, row, n, hi)
            unit += 4
        else:
            for n in range(lo, hi, columns):
                product_of_two(out, first + unit, weights, unit, below, row, n, hi)
            unit += 2
