"""Preprocessing: bijections with their log-determinants, and steps that are written to JSON and read back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from flowbench.data import preprocessing as steps
from flowbench.data.preparing.images import dequantised_logits, patch_columns
from flowbench.transforms import Transform
from flowbench.transforms.preprocessing import Compress, Dequantise, Logit, Standardise, SubtractMean


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


PIXELS = torch.from_numpy(np.random.RandomState(0).uniform(0, 256, (5, 3)))


@pytest.mark.parametrize(
    "transform", [Standardise(tensor(1e9, 2, -3), tensor(1e-3, 1, 40)), Logit(1e-6, 256), Logit(0.05, 256)]
)
def test_they_are_bijections_with_the_log_det_of_their_jacobian(transform: Transform) -> None:
    for x in (PIXELS, PIXELS.float()):
        u, log_det = transform(x)
        assert u.dtype == log_det.dtype == torch.float64
        back, back_log_det = transform.inverse(u)
        torch.testing.assert_close(back, x.double(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(back_log_det, -log_det)
    for row, expected in zip(PIXELS, transform(PIXELS)[1], strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: transform(r[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, expected)


def test_a_small_spread_far_from_zero_is_kept() -> None:
    transform = Standardise(tensor(1.7e9), tensor(1e-3))
    torch.testing.assert_close(transform(tensor(1.7e9 + 2e-3)[:, None])[0], tensor(2.0)[:, None], rtol=1e-3, atol=0)


def test_logits_are_those_of_the_datasets() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (100, 7))
    noisy = pixels + np.random.RandomState(1).random_sample(pixels.shape)
    u, _ = Logit(1e-6, 256)(torch.from_numpy(noisy))
    np.testing.assert_allclose(dequantised_logits(pixels, 256, 1e-6, np.random.RandomState(1)), u, rtol=1e-6)


def test_a_logit_beyond_all_pixels_is_the_nearest_pixel() -> None:
    x, _ = Logit(0.01, 17).inverse(tensor(-30, 30)[None])
    assert x.tolist() == [[0, pytest.approx(17)]]
    assert x.max() < 17


def test_patches_come_back_without_their_mean() -> None:
    """What is a bijection is the map from the first D mean-free pixels: its Jacobian is in the log_det."""
    patches = np.random.RandomState(0).randint(0, 256, (50, 64), dtype=np.uint8)
    noisy = torch.from_numpy(patches + np.random.RandomState(1).random_sample(patches.shape))
    u, log_det = SubtractMean(256)(noisy)
    np.testing.assert_allclose(patch_columns(patches, np.random.RandomState(1)), u, rtol=0, atol=1e-7)
    back, back_log_det = SubtractMean(256).inverse(u)
    torch.testing.assert_close(back, noisy - noisy.mean(1, keepdim=True))
    torch.testing.assert_close(back_log_det, -log_det)
    torch.testing.assert_close(SubtractMean(256)(back)[0], u)
    jacobian = torch.autograd.functional.jacobian(lambda r: SubtractMean(256).inverse(r[None])[0][0, :63], u[0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, back_log_det[0])


def test_a_discrete_value_is_in_the_middle_of_its_step_and_comes_back_from_all_of_it() -> None:
    count = torch.arange(-50, 50, dtype=torch.float64)[:, None]
    steps, origin = tensor(1, 0.1, 5, 0.05, 0, 0.3), tensor(0, 0, 3, 0, 0, 0.1)
    x = origin + torch.cat([count, count / 10, count * 5, count / 20, count + 0.3, count * 0.3], dim=1)
    transform = Dequantise(steps, origin)
    u, log_det = transform(x)
    torch.testing.assert_close(u, x + steps / 2)
    assert log_det.tolist() == [0] * 100
    noise = torch.rand(x.shape, dtype=torch.float64) * 0.999 + 5e-4
    for inside in (u, x + noise * steps):
        torch.testing.assert_close(transform.inverse(inside)[0], x, rtol=1e-12, atol=1e-12)
    assert transform.inverse(tensor(0.31)[:, None])[0][0, 1] == 0.3  # as it is written, not 3·0.1
    assert torch.equal(Dequantise(steps, None).inverse(u)[0], u)


ALL: steps.Preprocessing = (
    steps.Dequantise(steps=(1.0,), origin=None),
    steps.Dequantise(steps=(0.0, 0.1), origin=(0.0, 1 / 3)),
    steps.Standardise.of(np.array([1 / 3, -1e300]), np.array([1e-300, 0.1])),
    steps.Compress(by=("log", None, "asinh"), location=(0.0, 0.0, 1 / 3), scale=(1.0, 1.0, 0.1)),
    steps.Logit(alpha=1e-6, levels=256),
    steps.SubtractMean(levels=256),
)


def test_steps_are_strict_json_and_come_back_to_the_bit() -> None:
    adapter = TypeAdapter(steps.Preprocessing)
    document = json.dumps(adapter.dump_python(ALL, mode="json"), allow_nan=False)
    assert adapter.validate_python(json.loads(document)) == ALL


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "standardise", "location": [0.0], "scale": [0.0]},
        {"kind": "standardise", "location": [float("nan")], "scale": [1.0]},
        {"kind": "dequantise", "steps": [-1.0]},
        {"kind": "logit", "alpha": 0.5, "levels": 2},
        {"kind": "log"},
    ],
)
def test_steps_that_are_no_bijection_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(steps.Preprocessing).validate_python([wrong])


COMPRESS = steps.Compress(by=("log", None, "asinh"), location=(0, 0, -2e3), scale=(1, 1, 5))


def compress() -> Compress:
    log, asinh = (torch.tensor([by == name for by in COMPRESS.by]) for name in ("log", "asinh"))
    return Compress(log, asinh, tensor(*COMPRESS.location), tensor(*COMPRESS.scale))


@given(
    st.lists(
        st.tuples(st.floats(1e-300, 1e300), st.floats(-1e300, 1e300), st.floats(-1e150, 1e150).map(lambda x: x - 2e3)),
        min_size=1,
        max_size=5,
    )
)
def test_log_and_asinh_are_those_of_the_tables_and_come_back(rows: list[tuple[float, float, float]]) -> None:
    x, transform = tensor(*rows).reshape(-1, 3), compress()
    u, terms = transform.by_column(x)
    np.testing.assert_allclose(COMPRESS.compressed(x.numpy()), u, rtol=1e-12, atol=1e-12)
    assert terms.isfinite().all()
    back, back_terms = transform.inverse_terms(u)
    # of a number near the location the distance to it is what is kept
    torch.testing.assert_close(back, x, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(back_terms, -terms, rtol=1e-9, atol=1e-9)
    slopes = torch.autograd.functional.jacobian(lambda r: transform.by_column(r)[0].sum(0), x).diagonal(dim1=0, dim2=2)
    torch.testing.assert_close(slopes.abs().log(), terms, rtol=1e-9, atol=1e-9)


def test_what_has_no_logarithm_is_nan_and_what_underflows_keeps_one() -> None:
    transform = compress()
    u, _ = transform.by_column(tensor(0, 1, 1, -1, 1, 1, math.nan, 1, 1).reshape(3, 3))
    assert u[:, 0].isnan().all()
    assert u[:, 1:].isfinite().all()
    x, _ = transform.inverse_terms(tensor(-1e4, 0, 0)[None])
    assert x[0, 0] > 0
    assert transform.by_column(x)[0].isfinite().all()
