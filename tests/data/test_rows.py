"""Rows in memory and in mapped files: the same rows, each once an epoch, the same flow, and flat memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowbench import flows
from flowbench.config import TrainingOptions
from flowbench.data import fit_gaussian, rows
from flowbench.data.rows import MappedRows, on_device, shuffled, through
from flowbench.flows.core.density import log_likelihoods
from flowbench.training.calibration import calibrate
from flowbench.training.loop import train

N, DIM = 1003, 3


@pytest.fixture
def array(tmp_path: Path) -> np.ndarray:
    """1003 rows in a mapped file, in windows and blocks of few."""
    np.save(tmp_path / "a.npy", np.random.RandomState(0).normal(size=(N, DIM)).astype(np.float32))
    return np.load(tmp_path / "a.npy", mmap_mode="r")


@pytest.fixture
def mapped(array: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> MappedRows:
    monkeypatch.setattr(rows, "WINDOW_BYTES", 300 * 4 * DIM)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 10 * 4 * DIM)
    found = on_device(array, "cpu")
    assert isinstance(found, MappedRows)
    return found


def test_what_fits_is_a_tensor(array: np.ndarray) -> None:
    for whole in (array, np.array(array)):
        found = on_device(whole, "cpu")
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), array)


def test_reads_in_order(array: np.ndarray, mapped: MappedRows) -> None:
    np.testing.assert_array_equal(torch.cat(list(mapped.split(64))).numpy(), array)
    np.testing.assert_array_equal(mapped[990:2000].numpy(), array[990:])
    assert len(mapped) == N


@pytest.mark.parametrize("size", [1, 7, 299, 1003])
def test_an_epoch_has_every_row_once_in_another_order(size: int, array: np.ndarray, mapped: MappedRows) -> None:
    cuts = [*range(0, N, size), N]
    batches = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    generator = torch.Generator().manual_seed(0)
    first, second = (list(shuffled(mapped, batches, generator)) for _ in range(2))
    assert [len(batch) for batch in first] == [b.stop - b.start for b in batches]
    epochs = [torch.cat(epoch).numpy() for epoch in (first, second)]
    for epoch in epochs:
        np.testing.assert_array_equal(epoch[np.lexsort(epoch.T)], array[np.lexsort(array.T)])
    assert not np.array_equal(*epochs)
    again = torch.cat(list(shuffled(mapped, batches, torch.Generator().manual_seed(0)))).numpy()
    np.testing.assert_array_equal(again, epochs[0])


def test_a_batch_is_drawn_from_all_over_the_file(mapped: MappedRows) -> None:
    places = torch.arange(N, dtype=torch.float32)[:, None].expand(N, DIM)
    np.copyto(np.load(mapped._array.filename, mmap_mode="r+"), places.numpy())
    generator = torch.Generator().manual_seed(0)
    batches = list(shuffled(mapped, [slice(i, i + 100) for i in range(0, 1000, 100)], generator))
    for batch in batches:
        assert len(torch.unique(batch[:, 0] // 10)) > 18  # of the blocks of ten


def test_a_transform_of_mapped_rows_is_mapped(array: np.ndarray, mapped: MappedRows, tmp_path: Path) -> None:
    moved = through(mapped, lambda x: (2 * x, x.sum(1)), 100)
    moved = through(moved, lambda x: (x + 1, x.sum(1)), 64)
    assert isinstance(moved, MappedRows)
    np.testing.assert_array_equal(moved[:].numpy(), 2 * array + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("name", ["maf", "gaussian"])
def test_statistics_are_those_of_a_tensor(name: str, array: np.ndarray, mapped: MappedRows) -> None:
    found = []
    for x in (torch.from_numpy(np.array(array)), mapped):
        torch.manual_seed(0)
        module = flows.load(name)
        flow = module.build(DIM, module.Options())
        flow.fit_closed_form(x, x)
        flow.eval()
        calibrate(flow, x)
        found.append(log_likelihoods(flow, x))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
    mean, _ = fit_gaussian(lambda: [array[:500], array[500:]])
    np.testing.assert_allclose(mean, array.mean(axis=0, dtype=np.float64))


def test_it_trains(mapped: MappedRows) -> None:
    torch.manual_seed(0)
    module = flows.load("realnvp")
    flow = module.build(DIM, module.Options(transforms=2, hidden=(8,)))
    epochs = train(flow, mapped, mapped, TrainingOptions(batch_size=50, max_epochs=5, warmup_steps=5), 0)
    assert [epoch.rows for epoch in epochs] == [N] * 5
    assert epochs[-1].validation_ll_nats == pytest.approx(-1.5 * np.log(2 * np.pi * np.e), abs=0.15)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_read_is_given_back(tmp_path: Path) -> None:
    code = f"""
import numpy as np, numpy.random, re
from flowbench.data.mapped import read_rows
a = np.load({str(tmp_path / "a.npy")!r}, mmap_mode="r")
def resident(): return int(re.search(r"RssFile:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = resident()
for start in range(0, len(a), 1000): read_rows(a, start, start + 1000)
for start in np.random.RandomState(0).permutation(len(a) // 100): read_rows(a, start * 100, start * 100 + 100)
after = resident()
a.sum()
print(after - before, resident() - before)
"""
    np.save(tmp_path / "a.npy", np.zeros((500_000, 32), np.float32))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, touched = map(int, done.stdout.split())
    assert kept < 10_000 < 60_000 < touched  # kB, of 64 MB
