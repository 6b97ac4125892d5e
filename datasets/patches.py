"""8x8 grey patches of the two photographs that scikit-learn ships, made as BSDS300's are. Nothing to download."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from flowbench.data import Card, Splits
from flowbench.data.preparing.images import patch_splits

CARD = Card(
    name="patches",
    version=1,
    title="8x8 patches of the photographs china.jpg and flower.jpg",
    source_url="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_sample_images.html",
    licence="CC BY 2.0",
    citation="photographs by danielbuechele (china.jpg) and vultilion (flower.jpg), flickr, retrieved 2011",
    dim=63,
    n_train=50_000,
    n_validation=5_000,
    n_test=10_000,
    space="patch",
    gaussian_test_ll=89.650,
    gaussian_tolerance=0.05,  # JPEG decoders differ in the last grey level
)

_STRIP = 40  # pixels; 16 strips a photograph
_VALIDATION = (3, 11)
_TEST = (1, 6, 9, 14)


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Patches that lie within one vertical strip of a photograph; every strip belongs to one split.

    Splits share no pixel, but sky, roof and petal: whole photographs for each would need more than two. The test rows'
    groups are the strips for the same reason: eight, none of which touches another, where two photographs are too few
    to tell an error by. So that error is one of the mean over these two photographs, not over all there might be.
    """
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(Image.fromarray(image).convert("L")) for image in load_sample_images().images]
    strips = range(photographs[0].shape[1] // _STRIP)
    chosen = ([i for i in strips if i not in _VALIDATION + _TEST], _VALIDATION, _TEST)
    regions = [_regions(photographs, numbers) for numbers in chosen]
    return patch_splits(regions, CARD.rows, rng)


def _regions(photographs: list[np.ndarray], strips: Iterable[int]) -> list[np.ndarray]:
    return [photograph[:, i * _STRIP : (i + 1) * _STRIP] for photograph in photographs for i in strips]
