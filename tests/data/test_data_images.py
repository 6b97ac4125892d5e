"""Dequantisation, logits, patches and the Gaussian check, against their formulas."""

import numpy as np
import pytest
from scipy import stats

from flowbench.data import gaussian_ll, split_last_tenths
from flowbench.data.preparing.images import dequantised_logits, patch_columns, patch_splits, sample_patches
from flowbench.errors import DataError


def test_logits_lead_back_to_the_pixels() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (20_000, 5))
    logits = np.float64(dequantised_logits(pixels, 256, 1e-6, np.random.RandomState(1)))
    x = (1 / (1 + np.exp(-logits)) - 1e-6) / (1 - 2e-6)
    # float32 logits may round across a grey level's edge
    assert (np.floor(x * 256) == pixels).mean() > 0.9999
    assert stats.kstest((x * 256 - pixels).ravel(), "uniform").pvalue > 1e-3


def test_chunks_draw_one_stream_of_noise() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (20_000, 3))
    x = (pixels + np.random.RandomState(7).rand(20_000, 3)) / 256
    expected = np.log(1e-6 + (1 - 2e-6) * x) - np.log(1 - 1e-6 - (1 - 2e-6) * x)
    np.testing.assert_allclose(
        dequantised_logits(pixels, 256, 1e-6, np.random.RandomState(7)), expected, rtol=2e-5, atol=1e-6
    )


def test_patches_lie_in_their_image_anywhere() -> None:
    # each pixel's value is its own place, so that a patch shows where it comes from
    image = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
    patches = sample_patches([image], 5_000, np.random.RandomState(0))[0].reshape(-1, 8, 8)
    corners = patches[:, 0, 0]
    offsets = image[:8, :8].astype(int)
    np.testing.assert_array_equal(patches, corners[:, None, None] + offsets)
    assert set(corners) == {20 * row + column for row in range(5) for column in range(13)}


def test_test_patches_know_their_image() -> None:
    images = [np.full((10, 20 + i), 10 * i, np.uint8) for i in range(3)]
    found = patch_splits([images[:1], images[1:2], images], (7, 5, 300), np.random.RandomState(0))
    assert found.rows == (7, 5, 300)
    assert found.test_groups is not None
    patches, groups = sample_patches(images, 300, np.random.RandomState(1))
    np.testing.assert_array_equal(patches[:, 0], 10 * groups)
    assert found.test_groups.shape == (300,)
    assert set(found.test_groups) == {0, 1, 2}


def test_patch_columns_sum_to_minus_the_last_pixel() -> None:
    patches = np.random.RandomState(0).randint(0, 256, (10_000, 64), dtype=np.uint8)
    rows = patch_columns(patches, np.random.RandomState(1))
    x = (patches + np.random.RandomState(1).rand(10_000, 64)) / 256
    np.testing.assert_allclose(rows, x[:, :63] - x.mean(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(-rows.sum(axis=1), x[:, 63] - x.mean(axis=1), atol=1e-5)


def test_gaussian_is_scipys() -> None:
    rng = np.random.RandomState(0)
    train = (rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 100).astype(np.float32)
    test = train[:50] + np.float32(0.1)
    exact = stats.multivariate_normal(np.float64(train).mean(axis=0), np.cov(np.float64(train).T, bias=True))
    np.testing.assert_allclose(gaussian_ll(train, test), exact.logpdf(np.float64(test)), rtol=1e-8)


def test_gaussian_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.RandomState(0).normal(size=(1_001, 3)).astype(np.float32)
    whole = gaussian_ll(rows, rows)
    monkeypatch.setattr("flowbench.data.gaussian._CHUNK_VALUES", 100)
    np.testing.assert_allclose(gaussian_ll(rows, rows), whole, rtol=1e-12)


def test_gaussian_of_a_repeated_column_is_refused() -> None:
    column = np.random.RandomState(0).normal(size=(100, 1)).astype(np.float32)
    with pytest.raises(DataError, match="singular"):
        gaussian_ll(np.hstack([column, column]), np.hstack([column, column]))


@pytest.mark.parametrize(
    ("n", "expected"), [(2_049_280, (1_659_917, 184_435, 204_928)), (36_488, (29_556, 3_284, 3_648))]
)
def test_tenths_are_the_published_sizes(n: int, expected: tuple[int, int, int]) -> None:
    parts = split_last_tenths(np.arange(n))
    assert tuple(map(len, parts)) == expected
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
