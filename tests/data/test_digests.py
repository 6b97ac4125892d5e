"""Digests of rows."""

from __future__ import annotations

import numpy as np
import pytest

from flowbench.data import digests

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    "other", [ROWS[:3], ROWS[::-1], ROWS.reshape(3, 4), ROWS + np.float32(0.1), np.roll(ROWS, 1, axis=0)]
)
def test_other_rows_have_another_digest(other):
    assert digests.rows_sha256(np.ascontiguousarray(other)) != digests.rows_sha256(ROWS)


def test_it_does_not_depend_on_how_much_is_read_at_a_time(monkeypatch):
    whole = digests.rows_sha256(ROWS)
    monkeypatch.setattr(digests, "_CHUNK_VALUES", 5)
    assert digests.rows_sha256(ROWS) == whole
