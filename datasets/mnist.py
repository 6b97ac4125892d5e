"""MNIST's handwritten digits as 784 logits (MAF paper, section 4.3)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.console import DataError
from flowbench.data import Card, RawFile, Splits
from flowbench.data.images import dequantised_logits
from flowbench.data.raw import read_idx

_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # yann.lecun.com no longer serves them
_TRAIN = "train-images-idx3-ubyte.gz"
_TEST = "t10k-images-idx3-ubyte.gz"
_N_VALIDATION = 10_000
_LEVELS = 256
_ALPHA = 1e-6

CARD = Card(
    name="mnist",
    version=1,
    title="MNIST handwritten digits, 28x28 pixels",
    source_url="http://yann.lecun.com/exdb/mnist/",
    licence="CC BY-SA 3.0",
    citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
    dim=784,
    n_train=50_000,
    n_validation=_N_VALIDATION,
    n_test=10_000,
    space="logit",
    files=(
        RawFile(
            _TRAIN,
            _MIRROR + _TRAIN,
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            size_bytes=9_912_422,
            alternatives=("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
        ),
        RawFile(
            _TEST,
            _MIRROR + _TEST,
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            size_bytes=1_648_877,
            alternatives=("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
        ),
    ),
    gaussian_test_ll=-1366.90,
    gaussian_tolerance=0.5,
    logit_alpha=_ALPHA,
    levels=_LEVELS,
)


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """The official training images, of which the last 10,000 are for validation, and the official test images."""
    images = _read_images(raw[_TRAIN])
    # one stream of noise in this order: the published rows
    train = dequantised_logits(images[:-_N_VALIDATION], _LEVELS, _ALPHA, rng)
    validation = dequantised_logits(images[-_N_VALIDATION:], _LEVELS, _ALPHA, rng)
    test = dequantised_logits(_read_images(raw[_TEST]), _LEVELS, _ALPHA, rng)
    return Splits(train, validation, test)


def _read_images(path: Path) -> np.ndarray:
    images = read_idx(path)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{path} has shape {images.shape}, expected (rows, 28, 28)", "is it the file of labels?")
    return images.reshape(len(images), CARD.dim)
