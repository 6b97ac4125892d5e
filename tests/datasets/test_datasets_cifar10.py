"""CIFAR-10 on made batches: the same from each of its sources; noise, logits and mirror images as published."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import python2_pickles as python2
from made_files import put, same

from flowbench.data import load
from flowbench.errors import DataError

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
N_A_BATCH, N_VALIDATION = 6, 3


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    """Six images a batch; the last three of 30 are for validation, as 5,000 of 50,000 are."""
    rng = np.random.RandomState(0)
    return {name: rng.randint(0, 256, (N_A_BATCH, 3072), dtype=np.uint8) for name in BATCHES}


def binary(images: dict[str, np.ndarray]) -> dict[str, bytes]:
    labels = np.arange(N_A_BATCH, dtype=np.uint8)[:, None]
    return {f"{name}.bin": np.hstack([labels, pixels]).tobytes() for name, pixels in images.items()}


def pickled(images: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {
        name: python2.dump(
            {b"batch_label": name.encode(), b"labels": list(range(N_A_BATCH)), b"data": python2.array(pixels)}
        )
        for name, pixels in images.items()
    }


def tarred(folder: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in (files | {"readme.html": b"<html>", "batches.meta": b"not a pickle"}).items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_cifar10_is_the_same_from_each_of_its_sources(images: dict[str, np.ndarray], folder: Path) -> None:
    sources = {
        "cifar10": {"cifar-10-binary.tar.gz": tarred("cifar-10-batches-bin", binary(images))},
        "a": {"cifar-10-python.tar.gz": tarred("cifar-10-batches-py", pickled(images))},
        "b": {f"cifar-10-batches-bin/{name}": content for name, content in binary(images).items()},
        "c": {f"cifar-10-batches-py/{name}": content for name, content in pickled(images).items()},
        "d": pickled(images),
    }
    for source, files in sources.items():
        for name, content in files.items():
            put(folder / source / name, content)
    first = load("cifar10", allow_partial=True)
    (folder / "cifar10").rename(folder / "done")
    for source in "abcd":
        (folder / source).rename(folder / "cifar10")
        same(first, load("cifar10", allow_partial=True))
        (folder / "cifar10").rename(folder / f"done-{source}")
    (folder / "data").mkdir()
    (folder / "done-d").rename(folder / "data/cifar10")
    same(first, load("cifar10", allow_partial=True))


def test_cifar10_follows_the_published_steps(images: dict[str, np.ndarray], folder: Path) -> None:
    """Noise in the order train, validation, test; logits; then mirror images, colour by colour, with the same noise."""
    put(folder / "cifar10/cifar-10-binary.tar.gz", tarred("cifar-10-batches-bin", binary(images)))
    data = load("cifar10", allow_partial=True)
    pixels = np.concatenate([images[name] for name in BATCHES])
    x = 0.05 + 0.9 * (pixels + np.random.RandomState(42).rand(*pixels.shape)) / 256
    logits = np.log(x) - np.log(1 - x)
    n = 5 * N_A_BATCH - N_VALIDATION
    assert data.rows == (2 * n, N_VALIDATION, N_A_BATCH)
    np.testing.assert_allclose(data.train[:n], logits[:n], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.vstack([data.validation, data.test]), logits[n:], rtol=1e-5, atol=1e-6)
    for colour in range(3):
        plain, mirrored = (part[:, colour * 1024 :][:, :1024] for part in (data.train[:n], data.train[n:]))
        np.testing.assert_array_equal(mirrored.reshape(n, 32, 32), plain.reshape(n, 32, 32)[:, :, ::-1])


def test_cifar10_of_fewer_batches_is_split_in_proportion_if_that_is_allowed(
    images: dict[str, np.ndarray], folder: Path
) -> None:
    for name in ("data_batch_3", "data_batch_5"):
        del images[name]
    put(folder / "cifar10/cifar-10-binary.tar.gz", tarred("cifar-10-batches-bin", binary(images)))
    with pytest.raises(DataError, match="its card says 90,000 / 5,000 / 10,000"):
        load("cifar10")
    assert load("cifar10", allow_partial=True).rows == (32, 2, 6)
    put(folder / "cifar10/cifar-10-binary.tar.gz", tarred("cifar-10-batches-bin", {}))
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: there is no data_batch_1"):
        load("cifar10", allow_partial=True)


@pytest.mark.parametrize("kept", [["data_batch_2"], ["test_batch"]])
def test_cifar10_of_one_batch_has_all_three_splits(
    kept: list[str], images: dict[str, np.ndarray], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else can be had; the files of the ready-made archive count one by one."""
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    for name in kept:
        put(folder / "cifar10" / name, pickled(images)[name])
    with pytest.raises(DataError, match="FLOWBENCH_OFFLINE"):
        load("cifar10")
    data = load("cifar10", allow_partial=True)
    assert data.rows == (8, 1, 1)  # and four mirror images
    assert data.name == "cifar10~10"


@pytest.mark.parametrize(
    "batch",
    [
        {b"data": python2.array(np.zeros((3, 3072)))},
        {b"data": python2.array(np.zeros((3, 3071), np.uint8))},
        {b"pixels": python2.array(np.zeros((3, 3072), np.uint8))},
        [1, 2],
    ],
)
def test_cifar10_of_another_content_is_refused(batch: object, images: dict[str, np.ndarray], folder: Path) -> None:
    for name, content in (pickled(images) | {"data_batch_2": python2.dump(batch)}).items():
        put(folder / "cifar10" / name, content)
    with pytest.raises(DataError, match=r"cifar10"):
        load("cifar10", allow_partial=True)
