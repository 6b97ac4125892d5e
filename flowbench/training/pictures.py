"""Rows of pixels as pictures."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flowbench.data.preprocessing import Logit, Preprocessing, SubtractMean
from flowbench.results.sketch import Image, Images

Float64 = NDArray[np.float64]

SHOWN, ACROSS = 16, 4
"""Pictures of a part, and those of them that stand beside each other."""

MOST_BYTES = 290_000
"""Of the pictures of a part before they are compressed, which may not make them smaller: see `Image`."""

GAP, GREY = 1, 128
"""Pixels between two pictures, and the level of a middle grey."""


def pictures(preprocessing: Preprocessing, **parts: Float64) -> Images | None:
    """The raw rows (n, D) of each part as pictures; None where rows are no square images, grey or of three colours.

    Rows of three colours have one after the other. Patches, whose mean is gone, are shown on a middle grey.
    """
    pixels = next((step for step in preprocessing if isinstance(step, Logit | SubtractMean)), None)
    dim = next(iter(parts.values())).shape[1]
    channels = next((n for n in (1, 3) if dim % n == 0 and math.isqrt(dim // n) ** 2 == dim // n), None)
    if pixels is None or channels is None or not all(len(rows) for rows in parts.values()):
        return None
    side = math.isqrt(dim // channels)
    most = min(SHOWN, MOST_BYTES // (channels * (side + GAP) ** 2))
    if not most:
        return None
    middle, scale = (GREY, 256 / pixels.levels) if isinstance(pixels, SubtractMean) else (0, 255 / (pixels.levels - 1))
    return Images(
        **{name: _together(rows[:most] * scale + middle, channels, side, GREY - middle) for name, rows in parts.items()}
    )


def _together(rows: Float64, channels: int, side: int, between: int) -> Image:
    across = min(ACROSS, len(rows))
    down, step = math.ceil(len(rows) / across), side + GAP
    sheet = np.full((down * step - GAP, across * step - GAP, channels), between, np.uint8)
    for place, row in enumerate(rows):
        y, x = place // across * step, place % across * step
        levels = np.clip(np.nan_to_num(row), 0, 255).round().astype(np.uint8)
        sheet[y : y + side, x : x + side] = levels.reshape(channels, side, side).transpose(1, 2, 0)
    buffer = io.BytesIO()
    Pillow.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(buffer, "PNG", optimize=True)
    return Image(side=side, across=across, count=len(rows), png=base64.b64encode(buffer.getvalue()).decode())
