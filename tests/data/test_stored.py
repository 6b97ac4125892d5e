"""What was computed of arrays and is kept with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowbench.data.stored import Stored

VALUES = np.array([0.1, -np.inf, np.nan, 1e300])
DIGESTS = {"train": "a", "test": "b"}


def computed(stored: Stored, name: str = "lls", n: int = 4) -> bool:
    """Whether the values had to be."""
    calls = []

    def compute() -> np.ndarray:
        calls.append(name)
        return VALUES[:n]

    np.testing.assert_array_equal(stored.values(name, n, compute), VALUES[:n])
    return bool(calls)


def test_values_are_computed_once(tmp_path: Path) -> None:
    stored = Stored(tmp_path, DIGESTS)
    assert computed(stored)
    assert not computed(Stored(tmp_path, dict(reversed(DIGESTS.items()))))
    assert computed(stored, "other")


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    stored = Stored(tmp_path, DIGESTS)
    computed(stored)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 7):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        stored.values("lls", 4, lambda: VALUES) is VALUES or pytest.fail(f"bit {bit} was not noticed")
    assert path.read_bytes() == content


def test_values_of_other_rows_or_under_another_name_are_not_taken(tmp_path: Path) -> None:
    computed(Stored(tmp_path, DIGESTS))
    assert computed(Stored(tmp_path, {**DIGESTS, "test": "c"}))
    computed(Stored(tmp_path, DIGESTS), "other")
    (tmp_path / "other.f8").replace(tmp_path / "lls.f8")
    assert computed(Stored(tmp_path, DIGESTS))
    assert computed(Stored(tmp_path, DIGESTS), n=3)


@pytest.mark.parametrize("folder", ["gone", "file"])
def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    stored = Stored(tmp_path / folder, DIGESTS)
    assert computed(stored)
    assert computed(stored)
