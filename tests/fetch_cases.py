"""What the tests of downloads share: a file, a dataset of one file, and what lies in the data folder after."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from flowbench.data.card import Card, RawFile

BODY = np.random.default_rng(0).bytes(200_000)
HALF = len(BODY) // 2
OTHER = bytes(len(BODY))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def raw_file(url: str, *mirrors: str, body: bytes | None = BODY) -> RawFile:
    return RawFile("toy.bin", url, mirrors, sha256=None if body is None else sha256(body))


def card(*files: RawFile, ready_made: tuple[str, ...] = ()) -> Card:
    return Card("toy", 1, "Toy", "https://x", "CC0", "me", 2, 8, 1, 1, "raw", files=files, ready_made=ready_made)


def left_behind(data_dir: Path) -> set[str]:
    """All files in the data folder but the empty ones of locks."""
    paths = (path for path in data_dir.rglob("*") if path.is_file() and path.name != ".fetch.lock")
    return {str(path.relative_to(data_dir)) for path in paths}


def assert_fetched(data_dir: Path) -> None:
    assert (data_dir / "toy/toy.bin").read_bytes() == BODY
    assert left_behind(data_dir) == {"toy/toy.bin"}
