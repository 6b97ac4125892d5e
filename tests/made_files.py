"""What tests of recipes share: files made in the data folder, and what comes out of them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from flowbench.data import Dataset
from flowbench.data.preprocessing import Standardise


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def zipped(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def everything(data: Dataset) -> np.ndarray:
    return np.vstack([data.train, data.validation, data.test])


def same(first: Dataset, second: Dataset) -> None:
    assert first.fingerprint != second.fingerprint
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def standardisation(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale (D,) of standardised data."""
    (step,) = [step for step in data.preprocessing or () if isinstance(step, Standardise)]
    return np.array(step.location), np.array(step.scale)
