"""exp, tanh, log and what is made of them in the kernels for a CPU, against the same in extended precision."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba", reason="the kernels need numba")

from flowbench.engines.numba import elementary
from flowbench.engines.numba.vectors import jit


@jit
def _exp(x, out):  # type: ignore[no-untyped-def]
    for n in range(len(x)):
        out[n] = elementary.exp(x[n])


@jit
def _tanh(x, out):  # type: ignore[no-untyped-def]
    for n in range(len(x)):
        out[n] = elementary.tanh(x[n])


@jit
def _log(x, out):  # type: ignore[no-untyped-def]
    for n in range(len(x)):
        out[n] = elementary.log(x[n])


@jit
def _softplus(x, out):  # type: ignore[no-untyped-def]
    for n in range(len(x)):
        out[n] = elementary.softplus(x[n], elementary.exp(-abs(x[n])))


@jit
def _sigmoid(x, out):  # type: ignore[no-untyped-def]
    for n in range(len(x)):
        out[n] = elementary.sigmoid(x[n])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_right_to_the_last_bits(dtype: type) -> None:
    end, top = {np.float32: (87, 88.722), np.float64: (708, 709.782)}[dtype]  # above, the type ends
    small = np.geomspace(1e-30, 1, 10_001)
    every = np.concatenate([np.linspace(-end, top, 40_001), small, -small]).astype(dtype)
    positive = np.concatenate(
        [np.geomspace(np.finfo(dtype).tiny, np.finfo(dtype).max / 2, 40_001), 1 + small, 1 - small]
    )
    for function, x, expected, limit in (
        (_exp, every, np.exp, 1.5),
        (_tanh, every, np.tanh, 3),
        (_log, positive[positive > 0].astype(dtype), np.log, 2),
        (_softplus, every[every > -end], lambda z: np.logaddexp(z, 0), 3),
        (_sigmoid, every, lambda z: 1 / (1 + np.exp(-z)), 3),
    ):
        out = np.empty_like(x)
        function(x, out)
        true = expected(x.astype(np.longdouble))
        apart = np.abs(out - true) / np.maximum(np.abs(true), np.finfo(dtype).tiny)
        assert apart.max() < limit * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_beyond_the_ends_they_saturate_and_nan_stays(dtype: type) -> None:
    x = np.array([np.nan, np.inf, 1e30, -1e30, -np.inf], dtype)
    out = np.empty_like(x)
    _exp(x, out)
    np.testing.assert_array_equal(out[:3], [np.nan, np.inf, np.inf])
    assert (np.abs(out[3:]) < 1e-37).all()
    rising = np.linspace(80, 90, 100_001).astype(dtype) * (8 if dtype is np.float64 else 1)
    last = np.empty_like(rising)
    _exp(rising, last)
    assert (last[1:] >= last[:-1]).all()  # into infinity, without a NaN on the way
    _tanh(x, out)
    np.testing.assert_array_equal(out, np.array([np.nan, 1, 1, -1, -1], dtype))
    _log(x[:3], out[:3])
    np.testing.assert_array_equal(out[:2], np.array([np.nan, np.inf], dtype))
    _softplus(x, out)
    np.testing.assert_array_equal(out[:3], np.array([np.nan, np.inf, 1e30], dtype))
    assert (np.abs(out[3:]) < 1e-37).all()


def test_a_kernel_that_cannot_be_kept_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(x):
        return 2 * x

    kernel = jit(twice)

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(kernel._cache), "_save_overload", no_room)
    assert kernel(3.5) == 7.0
