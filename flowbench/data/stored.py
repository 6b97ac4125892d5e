"""Where the arrays of a dataset are mapped from, and what was computed of them once and is kept there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench.data.sealing import signed, unsigned
from flowbench.errors import UsageError
from flowbench.files import small_content, written_whole

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Stored:
    """A ``folder`` of arrays that were proven; ``rows_sha256`` is the digest (`digests.rows_sha256`) of each split."""

    folder: Path
    rows_sha256: dict[str, str]

    def values(self, name: str, n: int, compute: Callable[[], Float64]) -> Float64:
        """What ``compute`` gives (n,) of these rows: kept under this name, and read from there as long as it is whole.

        A cache that has become read-only is no failure.
        """
        path, what = self.folder / f"{name}.f8", f"{name} {sorted(self.rows_sha256.items())}"
        with suppress(OSError, ValueError):
            kept = np.frombuffer(unsigned(small_content(path, 8 * n + 32), what), "<f8")
            if len(kept) == n:
                return kept
        found = compute()
        with suppress(UsageError), written_whole(path) as file:
            file.write(signed(np.asarray(found, "<f8").tobytes(), what))
        return found
