"""The 1,797 scanned digits that scikit-learn ships: small images, nothing to download."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, Splits, split_last_tenths
from flowbench.data.preparing.images import dequantised_logits, pixel_steps

_LEVELS = 17
_ALPHA = 0.01

CARD = Card(
    name="digits",
    version=1,
    title="Optical recognition of handwritten digits, 8x8 pixels, test part",
    source_url="https://archive.ics.uci.edu/dataset/80",
    licence="CC BY 4.0",
    citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI 80 (1998), doi 10.24432/C50P49",
    dim=64,
    n_train=1457,
    n_validation=161,
    n_test=179,
    space="logit",
    gaussian_test_ll=-92.641,
    gaussian_tolerance=0.01,
)


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Pixels of 0..16 shuffled, dequantised and taken to logits; split as POWER is.

    alpha is larger than MNIST's 1e-6: with 17 grey values and few rows, far tails at black pixels would drown the rest.
    """
    from sklearn.datasets import load_digits

    pixels = rng.permutation(load_digits().data)
    train, validation, test = split_last_tenths(dequantised_logits(pixels, _LEVELS, _ALPHA, rng))
    return Splits(train, validation, test, preprocessing=pixel_steps(_LEVELS, _ALPHA))
