"""MINIBOONE on made files, one of the published size: signal rows, unmeasured rows, and the columns that repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_files import put, same, zipped

from flowbench.data import load, recipe
from flowbench.data.sources import raw
from flowbench.errors import DataError

REPEATING = (3, 10, 11, 24, 25, 33, 49)
UNMEASURED = tuple(range(8, 36_499, 3500))  # 11 rows


def miniboone_values(n_signal: int = 36_499) -> np.ndarray:
    """Whole numbers of 10 to 99, 50 columns: each has a 0, those of REPEATING six of them."""
    values = np.random.RandomState(0).randint(10, 100, (n_signal, 50))
    values[0] = 0
    values[1:6, REPEATING] = 0
    return values


def miniboone_text(values: np.ndarray, unmeasured: tuple[int, ...], background: int = 3) -> bytes:
    """In columns of five characters, rows at ``unmeasured`` filled with -999, after the numbers of rows."""
    cells = np.full((*values.shape, 5), ord(" "), np.uint8)
    cells[..., 3], cells[..., 4] = ord("0") + values // 10, ord("0") + values % 10
    cells[list(unmeasured), :, 1:] = np.frombuffer(b"-999", np.uint8)
    lines = np.concatenate([cells.reshape(len(values), -1), np.full((len(values), 1), ord("\n"), np.uint8)], axis=1)
    last = (" 1.5" * values.shape[1] + "\n") * background
    return f" {len(values)} {background}\n".encode() + lines.tobytes() + last.encode()


def test_miniboone_at_full_size_gives_the_published_rows_and_columns(folder: Path) -> None:
    values = miniboone_values()
    assert len(UNMEASURED) == 11
    put(folder / "miniboone/MiniBooNE_PID.txt", miniboone_text(values, UNMEASURED))
    it = recipe("miniboone")
    splits = it.prepare(raw.find(it.CARD), np.random.RandomState(42))
    assert (splits.rows, splits.dim) == (it.CARD.rows, it.CARD.dim) == ((29_556, 3_284, 3_648), 43)
    rows = np.delete(np.delete(values, UNMEASURED, axis=0), REPEATING, axis=1)
    seen = rows[:-3_648]
    expected = (rows - seen.mean(axis=0)) / seen.std(axis=0)
    np.testing.assert_allclose(
        np.vstack([splits.train, splits.validation, splits.test]), expected, rtol=1e-5, atol=1e-6
    )


def test_miniboone_text_zip_and_ready_made_are_the_same(folder: Path) -> None:
    values = miniboone_values(400)
    text = miniboone_text(values, (8, 9))
    path = put(folder / "miniboone/MiniBooNE_PID.txt", text)
    first = load("miniboone", allow_partial=True)
    assert first.rows == (324, 35, 39)
    path.unlink()
    put(folder / "miniboone/miniboone+particle+identification.zip", zipped("MiniBooNE_PID.txt", text)).rename(
        folder / "kept.zip"
    )
    array = np.delete(np.delete(np.float64(values), (8, 9), axis=0), REPEATING, axis=1)
    (folder / "miniboone").mkdir(exist_ok=True)
    np.save(folder / "miniboone/data.npy", array)
    same(first, load("miniboone", allow_partial=True))
    (folder / "kept.zip").rename(folder / "miniboone/miniboone+particle+identification.zip")
    same(first, load("miniboone", allow_partial=True))


def test_miniboone_cut_short_is_refused(folder: Path) -> None:
    text = miniboone_text(miniboone_values(400), ())
    put(folder / "miniboone/MiniBooNE_PID.txt", text[: len(text) // 2])
    with pytest.raises(DataError, match=r"MiniBooNE_PID\.txt"):
        load("miniboone", allow_partial=True)
