"""MNIST's handwritten digits as 784 logits (MAF paper, section 4.3)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, RawFile, Splits
from flowbench.data.preparing.images import dequantised_logits, pixel_steps
from flowbench.data.preparing.partial import in_proportion
from flowbench.data.sources import pickles
from flowbench.data.sources.raw import opened, read_idx, reading
from flowbench.errors import DataError

_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # yann.lecun.com no longer serves them
_SECOND_MIRROR = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_TRAIN = "train-images-idx3-ubyte.gz"
_TEST = "t10k-images-idx3-ubyte.gz"
_TRAIN_LABELS = "train-labels-idx1-ubyte"
_TEST_LABELS = "t10k-labels-idx1-ubyte"
_READY_MADE = "mnist.pkl.gz"
_N_VALIDATION = 10_000
_LEVELS = 256
_ALPHA = 1e-6
_MOST_BYTES = 256 << 20  # of a file unpacked: the pickle has 220 MB

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
            mirrors=(_SECOND_MIRROR + _TRAIN,),
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            size_bytes=9_912_422,
            alternatives=("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
        ),
        RawFile(
            _TEST,
            _MIRROR + _TEST,
            mirrors=(_SECOND_MIRROR + _TEST,),
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            size_bytes=1_648_877,
            alternatives=("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
        ),
    ),
    ready_made=(f"data/mnist/{_READY_MADE}",),
    label_files=tuple(
        RawFile(f"{name}.gz", f"{_MIRROR}{name}.gz", alternatives=(name, name.replace("-idx1", ".idx1")))
        for name in (_TRAIN_LABELS, _TEST_LABELS)
    ),
    gaussian_test_ll=-1366.90,
    gaussian_tolerance=0.5,
)

LABELS = tuple("0123456789")

SOME_FILES_DO = True  # whose images are split in proportion, where that is allowed


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """The official training images, of which the last 10,000 are for validation, and the official test images.

    Of fewer images, as many as that in proportion.
    """
    parts = _pickled_images(raw[_READY_MADE]) if _READY_MADE in raw else _read_idx_files(raw)
    # one stream of noise in this order: the published rows
    train, validation, test = (dequantised_logits(pixels, _LEVELS, _ALPHA, rng) for pixels in parts)
    return Splits(train, validation, test, preprocessing=pixel_steps(_LEVELS, _ALPHA))


def labels(raw: Mapping[str, Path]) -> list[np.ndarray]:
    """The digit of each image of each split."""
    if _READY_MADE in raw:
        return [pickles.array(digits) for _, digits in _read_pickle(raw[_READY_MADE])]
    found = {
        name: read_idx(raw[f"{name}.gz"], _MOST_BYTES) for name in (_TRAIN_LABELS, _TEST_LABELS) if f"{name}.gz" in raw
    }
    return _split(found.get(_TRAIN_LABELS), found.get(_TEST_LABELS))


def _read_pickle(path: Path) -> list[tuple[object, object]]:
    """Images and digits of each of the three parts."""
    with opened(path, path.stem, _MOST_BYTES) as packed:
        content = packed.read()
    with reading(path):
        match pickles.load(content, path):
            case ((a, b), (c, d), (e, f)):
                return [(a, b), (c, d), (e, f)]
            case _:
                raise ValueError("its pickle does not hold the three parts of MNIST")


def _pickled_images(path: Path) -> list[np.ndarray]:
    """Grey values of the three parts, whose images are v / 256 in float32."""
    parts = _read_pickle(path)
    with reading(path):
        return [_grey_values(pickles.array(images) * np.float32(_LEVELS)) for images, _ in parts]


def _grey_values(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2 and pixels.shape[1] == CARD.dim and pixels.min() >= 0 and pixels.max() < _LEVELS:
        whole = pixels.astype(np.uint8)
        if np.array_equal(whole, pixels):
            return whole
    raise ValueError(f"its images are not rows of {CARD.dim} multiples of 1/{_LEVELS}")


def _read_idx_files(raw: Mapping[str, Path]) -> list[np.ndarray]:
    return _split(*(_read_images(raw[name]) if name in raw else None for name in (_TRAIN, _TEST)))


def _split(train: np.ndarray | None, test: np.ndarray | None) -> list[np.ndarray]:
    """The three parts; of one of the files alone, in proportion."""
    if train is None or test is None:
        found = test if train is None else train
        assert found is not None
        return in_proportion(found, CARD.rows)
    return [*in_proportion(train, CARD.rows[:2]), test]


def _read_images(path: Path) -> np.ndarray:
    images = read_idx(path, _MOST_BYTES)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{path} has shape {images.shape}, expected (rows, 28, 28)", "is it the file of labels?")
    return images.reshape(len(images), CARD.dim)
