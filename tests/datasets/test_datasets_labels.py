"""Labels of images, given: from each source of them, in the order of the images, and refused where they are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import python2_pickles as python2
from made_files import put, same

from flowbench.data import Dataset, TableOptions, load
from flowbench.errors import DataError, UsageError

LABEL = TableOptions(given=("label",))
PIXELS = np.random.RandomState(0).randint(0, 256, (65, 784), dtype=np.uint8)
DIGITS = np.random.RandomState(1).randint(0, 10, 65).astype(np.uint8)


def idx(values: np.ndarray) -> bytes:
    shape = (len(values), 28, 28) if values.ndim == 2 else values.shape
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes() + values.tobytes()


@pytest.fixture
def mnist(folder: Path) -> Path:
    """The folder of made images and labels: 40 for training, of which a sixth are for validation, and 25."""
    for name, part in (("train", slice(40)), ("t10k", slice(40, None))):
        put(folder / f"mnist/{name}-images-idx3-ubyte", idx(PIXELS[part]))
        put(folder / f"mnist/{name}-labels-idx1-ubyte.gz", gzip.compress(idx(DIGITS[part])))
    return folder / "mnist"


def labels(data: Dataset) -> np.ndarray:
    return np.concatenate([data.train[:, 0], data.validation[:, 0], data.test[:, 0]])


def test_mnist_given_its_digits(mnist: Path) -> None:
    images = load("mnist", allow_partial=True)
    for data in (load("mnist", allow_partial=True, table_options=LABEL) for _ in range(2)):  # made, and from the cache
        assert (data.dim, data.classes, data.given[0].labels) == (784, (10,), tuple("0123456789"))
        assert data.name == "mnist~65-given-label"
        np.testing.assert_array_equal(labels(data), DIGITS)
        np.testing.assert_array_equal(data.test[:, 1:], images.test)
        np.testing.assert_array_equal(data.train[:, 1:], images.train)
        assert data.fingerprint != images.fingerprint
    assert not images.given


def test_mnist_has_its_digits_ready_made(mnist: Path) -> None:
    official = load("mnist", allow_partial=True, table_options=LABEL)
    mnist.rename(mnist.parent / "idx")
    x = PIXELS.astype(np.float32) / 256
    parts = (slice(33), slice(33, 40), slice(40, None))
    pairs = tuple((python2.array(x[part]), python2.array(DIGITS[part].astype(np.int64))) for part in parts)
    put(mnist / "mnist.pkl.gz", gzip.compress(python2.dump(pairs)))
    same(official, load("mnist", allow_partial=True, table_options=LABEL))


def test_labels_that_are_missing_or_others_are_refused(mnist: Path) -> None:
    put(mnist / "t10k-labels-idx1-ubyte.gz", idx(DIGITS[41:]))
    with pytest.raises(DataError, match="labels are not a number below 10 for each"):
        load("mnist", allow_partial=True, table_options=LABEL)
    put(mnist / "t10k-labels-idx1-ubyte.gz", idx(DIGITS[40:] + np.uint8(5)))
    with pytest.raises(DataError, match="labels are not a number below 10 for each"):
        load("mnist", allow_partial=True, table_options=LABEL)
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"missing its labels, t10k-labels-idx1-ubyte\.gz") as caught:
        load("mnist", allow_partial=True, table_options=LABEL)
    assert str(mnist) in str(caught.value.hint)
    load("mnist", allow_partial=True)  # they are needed for nothing else


def test_what_a_dataset_cannot_be_given_is_refused(mnist: Path) -> None:
    with pytest.raises(UsageError, match="mnist cannot be given 'digit'"):
        load("mnist", allow_partial=True, table_options=TableOptions(given=("digit",)))
    with pytest.raises(UsageError, match="digits has nothing that could be given"):
        load("digits", table_options=LABEL)


def test_cifar10_given_its_classes(folder: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (36, 3072), dtype=np.uint8)
    classes = np.random.RandomState(1).randint(0, 10, 36).astype(np.uint8)
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        part = slice(6 * i, 6 * i + 6)
        content = np.hstack([classes[part, None], images[part]]).tobytes()
        put(folder / f"cifar10/cifar-10-batches-bin/{name}.bin", content)
        python = {b"labels": classes[part].tolist(), b"data": python2.array(images[part])}
        put(folder / "other" / name, python2.dump(python))
    data = load("cifar10", allow_partial=True, table_options=LABEL)
    expected = [*classes[:27], *classes[:27], *classes[27:]]  # a mirror image shows the same
    np.testing.assert_array_equal(labels(data), expected)
    assert data.given[0].labels[9] == "truck"
    (folder / "cifar10").rename(folder / "done")
    (folder / "other").rename(folder / "cifar10")
    same(data, load("cifar10", allow_partial=True, table_options=LABEL))
