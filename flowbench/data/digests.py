"""What tells two sets of rows apart: a digest of their content, whatever made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flowbench.data.mapped import Float32, read_rows
from flowbench.errors import UsageError
from flowbench.files import written_whole

_CHUNK_VALUES = 2**22


def rows_sha256(rows: Float32) -> str:
    """The sha256 (hex) of the rows (N, D): of their shape, and of their values as little-endian float32."""
    found = hashlib.sha256(f"{rows.shape}".encode())
    step = max(1, _CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        found.update(read_rows(rows, start, start + step).astype("<f4", copy=False).tobytes())
    return found.hexdigest()


def kept(folder: Path | None, splits: Mapping[str, Float32]) -> dict[str, str]:
    """The digest of each split; kept in ``folder``, and read from there when it is asked for again."""
    path = None if folder is None else folder / "sha256.json"
    if path is not None:
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text("utf-8"))
            if isinstance(found, dict) and set(found) == set(splits):
                return {name: str(digest) for name, digest in found.items()}
    digests = {name: rows_sha256(rows) for name, rows in splits.items()}
    if path is not None:
        with suppress(UsageError), written_whole(path) as file:  # a cache that has become read-only is no failure
            file.write(json.dumps(digests).encode())
    return digests
