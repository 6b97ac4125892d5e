"""The ready-made members of POWER, MNIST and BSDS300 give what their publishers' files give."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import python2_pickles as python2
from made_files import everything, put, same

from flowbench.data import load
from flowbench.errors import DataError


def power_rows(n: int) -> np.ndarray:
    """As in the text: active and reactive power, voltage, intensity, three sub-meters, and the minute of the day."""
    rng = np.random.RandomState(0)
    values = [rng.rand(n) * 5, rng.rand(n), 230 + 20 * rng.rand(n), 20 * rng.rand(n), *rng.randint(0, 30, (3, n))]
    return np.round(np.column_stack([*values, np.arange(n) % 1440]), 3)


def power_text(rows: np.ndarray) -> bytes:
    header = (
        "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;Sub_metering_1;Sub_metering_2;"
    )
    lines = [
        f"1/1/2007;{int(row[7]) // 60:02d}:{int(row[7]) % 60:02d}:00;" + ";".join(f"{v:.3f}" for v in row[:7])
        for row in rows
    ]
    return "\n".join([f"{header}Sub_metering_3", *lines, ""]).encode()


def test_power_text_and_ready_made_are_the_same(folder: Path) -> None:
    rows = power_rows(600)
    path = put(folder / "power/household_power_consumption.txt", power_text(rows))
    text = load("power", allow_partial=True)
    path.unlink()
    np.save(folder / "power/data.npy", rows)
    same(text, load("power", allow_partial=True))


def test_power_adds_no_noise_to_a_time_that_has_some(folder: Path) -> None:
    rows = power_rows(600)
    rows[:, -1] += np.random.RandomState(1).rand(600)
    (folder / "power").mkdir(parents=True)
    np.save(folder / "power/data.npy", rows)
    shuffled = np.random.RandomState(42).permutation(rows)[:, -1]
    seen = shuffled[:540]
    time = everything(load("power", allow_partial=True))[:, -1]
    np.testing.assert_allclose(time, (shuffled - seen.mean()) / seen.std(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["power", "miniboone"])
def test_an_array_of_another_shape_or_kind_is_refused(name: str, folder: Path) -> None:
    (folder / name).mkdir(parents=True)
    path = folder / name / "data.npy"
    for array in (np.ones((50, 4)), np.ones(50), np.array([{"an": "object"}], object)):
        np.save(path, array)
        with pytest.raises(DataError, match=r"cannot read .*data\.npy"):
            load(name, allow_partial=True)
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 43), }".ljust(117)
    )
    path.write_bytes(header + b"\n" + bytes(100))
    with pytest.raises(DataError, match=r"cannot read .*data\.npy"):
        load(name, allow_partial=True)


def mnist_pickle(parts: list[np.ndarray]) -> bytes:
    pairs = tuple((python2.array(part), python2.array(np.zeros(len(part), np.int64))) for part in parts)
    return gzip.compress(python2.dump(pairs))


def test_mnist_idx_and_ready_made_are_the_same(folder: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (65, 784), dtype=np.uint8)
    for name, part in (("train", pixels[:40]), ("t10k", pixels[40:])):
        header = b"\x00\x00\x08\x03" + np.array([len(part), 28, 28], ">i4").tobytes()
        put(folder / f"mnist/{name}-images-idx3-ubyte", header + part.tobytes())
    official = load("mnist", allow_partial=True)
    (folder / "mnist").rename(folder / "idx")
    x = pixels.astype(np.float32) / 256
    put(folder / "mnist/mnist.pkl.gz", mnist_pickle([x[:33], x[33:40], x[40:]]))
    same(official, load("mnist", allow_partial=True))


@pytest.mark.parametrize("bad", [np.nan, -1 / 256, 1.0, 0.3])
def test_mnist_that_is_no_multiple_of_a_grey_level_is_refused(bad: float, folder: Path) -> None:
    x = np.zeros((5, 784), np.float32)
    x[2, 3] = bad
    put(folder / "mnist/mnist.pkl.gz", mnist_pickle([x, x, x]))
    with pytest.raises(DataError, match=r"mnist\.pkl\.gz: its images"):
        load("mnist", allow_partial=True)


def test_bsds300_ready_made_is_taken_as_it_is(folder: Path) -> None:
    rows = np.random.RandomState(0).normal(size=(30, 63)).astype(np.float32)
    (folder / "data/BSDS300").mkdir(parents=True)
    with h5py.File(folder / "data/BSDS300/BSDS300.hdf5", "w") as file:
        file["train"], file["validation"], file["test"] = rows[:20], rows[20:25], rows[25:]
    data = load("bsds300", allow_partial=True)
    assert data.rows == (20, 5, 5)
    np.testing.assert_array_equal(everything(data), rows)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_bsds300_damaged_is_refused(content: bytes | None, folder: Path) -> None:
    path = put(folder / "bsds300/BSDS300.hdf5", content or b"")
    if content is None:
        with h5py.File(path, "w") as file:
            file["train"] = np.ones((3, 63))
    with pytest.raises(DataError, match=r"cannot read .*BSDS300\.hdf5"):
        load("bsds300", allow_partial=True)
