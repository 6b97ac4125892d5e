"""Rows of fewer files than were published, in the published proportions."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from made_files import put

from flowbench.data import TableOptions, load
from flowbench.data.preparing.partial import in_proportion
from flowbench.errors import DataError


@pytest.mark.parametrize(
    ("rows", "published", "sizes"),
    [
        (70_000, (50_000, 10_000, 10_000), [50_000, 10_000, 10_000]),
        (70, (50_000, 10_000, 10_000), [50, 10, 10]),
        (5, (90_000, 5_000), [4, 1]),
        (3, (1, 1_000, 1), [1, 1, 1]),
        (3, (1_000, 1, 1), [1, 1, 1]),
        (4, (1, 1, 1_000), [1, 1, 2]),
        (11, (10, 1), [10, 1]),
    ],
)
def test_parts_follow_each_other_and_none_is_empty(rows: int, published: tuple[int, ...], sizes: list[int]) -> None:
    parts = in_proportion(np.arange(rows), published)
    assert [len(part) for part in parts] == sizes
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(rows))


def test_fewer_rows_than_parts_are_refused() -> None:
    with pytest.raises(DataError, match="2 rows for 3 splits"):
        in_proportion(np.arange(2), (5, 1, 1))


@pytest.mark.parametrize("name", ["train", "t10k"])
def test_mnist_of_one_file_has_all_three_splits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    pixels = np.random.RandomState(0).randint(0, 256, (35, 28, 28), dtype=np.uint8)
    header = b"\x00\x00\x08\x03" + np.array(pixels.shape, ">i4").tobytes()
    put(tmp_path / f"raw/mnist/{name}-images-idx3-ubyte.gz", gzip.compress(header + pixels.tobytes()))
    with pytest.raises(DataError, match="FLOWBENCH_OFFLINE"):
        load("mnist")
    data = load("mnist", allow_partial=True)
    assert data.rows == (25, 5, 5)
    assert data.name == "mnist~35"
    assert data.partial


def test_others_need_all_of_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    put(tmp_path / "hepmass/1000_train.csv.gz", b"")
    with pytest.raises(DataError, match="FLOWBENCH_OFFLINE"):
        load("hepmass", allow_partial=True)


def test_labels_are_those_of_the_images_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    random = np.random.RandomState(0)
    pixels, digits = random.randint(0, 256, (35, 28, 28), dtype=np.uint8), np.arange(35, dtype=np.uint8) % 10
    for part in ("train", "t10k"):  # the test images are not there, their labels are
        header = b"\x00\x00\x08\x01" + np.array([35], ">i4").tobytes()
        put(tmp_path / f"raw/mnist/{part}-labels-idx1-ubyte.gz", gzip.compress(header + digits.tobytes()))
    header = b"\x00\x00\x08\x03" + np.array(pixels.shape, ">i4").tobytes()
    put(tmp_path / "raw/mnist/train-images-idx3-ubyte.gz", gzip.compress(header + pixels.tobytes()))
    data = load("mnist", allow_partial=True, table_options=TableOptions(given=("label",)))
    np.testing.assert_array_equal(np.concatenate([data.train, data.validation, data.test])[:, 0], digits)
