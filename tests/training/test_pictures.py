"""Rows of pixels as pictures in a sketch."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from flow_cases import shaken
from PIL import Image
from sketching_cases import of_rows, rows_of, sketched

from flowbench import data
from flowbench.data.preprocessing import Dequantise, Logit, SubtractMean
from flowbench.training.histograms import evenly_spread
from flowbench.training.pictures import pictures


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_images_are_pictures() -> None:
    dataset = data.load("digits")
    flow = shaken("gaussian", 64).float()
    found = sketched(flow, dataset)
    assert found.units == "pixel levels"
    assert found.images is not None
    assert (found.images.rows.count, found.images.rows.side, found.images.least_likely.count) == (16, 8, 8)
    seen = np.asarray(dataset.test[evenly_spread(179, 179)[1]], np.float64)
    levels = np.floor((1 / (1 + np.exp(-seen)) - 0.01) / 0.98 * 17 + 1e-4)  # as the card says
    np.testing.assert_allclose(pixels(found.images.rows.png)[:8, 9:17], (levels * 255 / 16).round().reshape(8, 8))


def test_patches_have_their_last_pixel_and_stand_apart() -> None:
    dataset = data.load("patches")
    flow = shaken("gaussian", 63).float()
    few = of_rows(np.array(dataset.test[:40]), preprocessing=dataset.preprocessing)
    found = sketched(flow, few)
    assert found.images is not None
    assert len(found.columns) == 64
    assert len(found.calibration_distances) == len(found.calibration) == 63
    assert found.exact
    whole = pixels(found.images.rows.png)
    assert not whole[8].any()  # between two, where a flat patch is grey
    np.testing.assert_allclose(whole[:8, :8].mean(), 128, atol=1)  # but for what is beyond black and white


def test_pictures_are_no_larger_than_may_be() -> None:
    rows = np.random.default_rng(0).uniform(0, 256, (16, 3 * 100 * 100))
    found = pictures((Logit(alpha=0.1, levels=256),), rows=rows, samples=rows, least_likely=rows, most_likely=rows)
    assert found is not None
    assert 0 < found.rows.count < 16
    huge = rows.repeat(16, 1)
    assert pictures((Logit(alpha=0.1, levels=256),), rows=huge, samples=huge) is None


@pytest.mark.parametrize(
    ("steps", "dim", "mode", "side"),
    [
        ((Dequantise(steps=(1.0,)), Logit(alpha=0.01, levels=17)), 64, "L", 8),
        ((Dequantise(steps=(1.0,)), Logit(alpha=0.05, levels=256)), 48, "RGB", 4),
        ((SubtractMean(levels=256),), 63, "L", 8),
    ],
)
def test_rows_of_pixels_are_pictures(steps: tuple, dim: int, mode: str, side: int) -> None:
    found = sketched(shaken("gaussian", dim).float(), of_rows(rows_of(100, dim), preprocessing=steps))
    assert found.images is not None
    for image, count in ((found.images.rows, 16), (found.images.least_likely, 8)):
        with Image.open(io.BytesIO(base64.b64decode(image.png))) as picture:
            assert (picture.mode, picture.width) == (mode, 4 * side + 3)
        assert (image.side, image.count) == (side, count)


@pytest.mark.parametrize(("steps", "dim"), [((), 64), ((Dequantise(steps=(1.0,)), Logit(alpha=0.01, levels=2)), 60)])
def test_other_rows_are_none(steps: tuple, dim: int) -> None:
    assert sketched(shaken("gaussian", dim).float(), of_rows(rows_of(30, dim), preprocessing=steps)).images is None
