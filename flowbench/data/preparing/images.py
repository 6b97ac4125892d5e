"""From pixels to columns: dequantisation, logits and patches, in chunks so that memory stays near the result's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flowbench.data.dataset import Float32, Float64, RawArray, Splits
from flowbench.data.preprocessing import Dequantise, Logit, Preprocessing, SubtractMean

Image = NDArray[np.uint8]

Groups = NDArray[np.int32]

PATCH = 8
"""Side of a patch in pixels."""

PATCH_STEPS: Preprocessing = (SubtractMean(levels=256),)
"""What `patch_columns` does, from 64 pixel values. The middle of the noise that it adds goes with the patch's mean."""

_CHUNK_ROWS = 8192


def dequantised_logits(pixels: RawArray, levels: int, alpha: float, rng: np.random.RandomState) -> Float32:
    """Pixels v (N, D) of 0..levels-1 as logit(alpha + (1 - 2 alpha) x) of x = (v + u) / levels, u ~ U[0, 1).

    alpha keeps the logits finite (MAF paper, section 4.3). The noise is drawn once, row by row.
    """
    logits = np.empty(pixels.shape, np.float32)
    for start in range(0, len(pixels), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        x = alpha + (1 - 2 * alpha) * _dequantise(pixels[chunk], levels, rng)
        logits[chunk] = np.log(x) - np.log1p(-x)
    return logits


def pixel_steps(levels: int, alpha: float) -> Preprocessing:
    """What `dequantised_logits` does, as steps from pixel values."""
    return Dequantise(steps=(1.0,)), Logit(alpha=alpha, levels=levels)


def patch_splits(sources: Sequence[Sequence[Image]], rows: tuple[int, int, int], rng: np.random.RandomState) -> Splits:
    """Patches of the images for training, of those for validation and of those for test: so many ``rows`` of each.

    The test rows' groups are the images that they were cut from.
    """
    parts, groups = [], np.empty(0, np.int32)
    for images, n in zip(sources, rows, strict=True):
        patches, groups = sample_patches(images, n, rng)
        parts.append(patch_columns(patches, rng))
    return Splits(parts[0], parts[1], parts[2], preprocessing=PATCH_STEPS, test_groups=groups)


def sample_patches(images: Sequence[Image], n: int, rng: np.random.RandomState) -> tuple[Image, Groups]:
    """n grey patches (n, 64), and the number (n,) of the image that each is from.

    An image is taken uniformly, then a position in it uniformly; pixels are in rows.
    """
    which = rng.randint(len(images), size=n)
    place = rng.random_sample((2, n))
    patches = np.empty((n, PATCH * PATCH), np.uint8)
    for i, image in enumerate(images):
        rows = np.flatnonzero(which == i)
        windows = sliding_window_view(image, (PATCH, PATCH))
        top, left = (place[:, rows] * np.array(windows.shape[:2])[:, None]).astype(np.intp)
        patches[rows] = windows[top, left].reshape(-1, PATCH * PATCH)
    return patches, which.astype(np.int32)


def patch_columns(patches: Image, rng: np.random.RandomState) -> Float32:
    """Patches (N, 64) as rows (N, 63): (v + u) / 256, minus the patch's mean, last pixel dropped.

    The last pixel follows from the others. Zoran and Weiss' preprocessing, as used for BSDS300 (MAF paper, appendix E).
    """
    rows = np.empty((len(patches), patches.shape[1] - 1), np.float32)
    for start in range(0, len(patches), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        x = _dequantise(patches[chunk], 256, rng)
        rows[chunk] = (x - x.mean(axis=1, keepdims=True))[:, :-1]
    return rows


def _dequantise(values: RawArray, levels: int, rng: np.random.RandomState) -> Float64:
    return np.asarray((values + rng.random_sample(values.shape)) / levels)
