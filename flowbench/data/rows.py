"""The rows of a split: a tensor, or a mapped file that is larger than should be in memory, read some at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from flowbench.data.mapped import is_mapped, read_rows

WINDOW_BYTES = 1 << 28
"""Of a split in memory at a time; one that has no more is a tensor."""

BLOCK_BYTES = 1 << 17
"""Read in one piece when rows are shuffled: far more than a disk's page, and a small part of a window."""


class Rows(Protocol):
    """N rows in order: that part of a tensor (N, D) which a mapped file can do as well."""

    @property
    def device(self) -> torch.device:
        """Where what is read of them lies."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Rows that follow each other, (n, D)."""
        ...

    def split(self, n: int, /) -> Iterable[Tensor]:
        """All rows in order, n at a time."""
        ...


def on_device(array: NDArray[np.float32], device: str) -> Rows:
    """The rows (N, D) of a read-only array: on the device as a tensor, or in their file if it is mapped and large."""
    rows = MappedRows(array, torch.device(device))
    if _stays(array, device):
        return rows
    whole = torch.empty(array.shape, device=device)
    for start in range(0, len(array), rows.block):
        whole[start : start + rows.block] = rows[start : start + rows.block]
    return whole


def held_by(array: NDArray[np.float32], device: str) -> int:
    """The bytes that ``on_device`` of it takes in training: a window and its order, or the whole array."""
    return 2 * min(WINDOW_BYTES, array.nbytes) if _stays(array, device) else array.nbytes


def _stays(array: NDArray[np.float32], device: str) -> bool:
    return is_mapped(array) and array.nbytes > _room(device)


def shuffled(rows: Rows, batches: Sequence[slice], generator: Generator) -> Iterator[Tensor]:
    """One epoch: batches (n, D) that cut a random order of the rows in these places, one after the other.

    Of mapped rows, it is the order of the file's blocks that is random, and that of the rows within a window of blocks
    (some two thousand): a batch is drawn from all of a window. The generator's state determines the order.
    """
    if isinstance(rows, MappedRows):
        yield from rows.shuffled(batches, generator)
    else:
        order = torch.randperm(len(rows), device=rows.device, generator=generator)
        for batch in batches:
            yield rows[order[batch]]  # type: ignore[index]  # a tensor


def through(rows: Rows, transform: Callable[[Tensor], tuple[Tensor, Tensor]], n: int) -> Rows:
    """What a transform makes of the rows, n at a time: rows of the same kind; mapped ones in a file without a name."""
    if isinstance(rows, MappedRows):
        return rows.through(transform, n)
    return torch.cat([transform(part)[0] for part in rows.split(n)])


class MappedRows:
    """Rows (N, D) of a memory-mapped array, of which only what is being used is in memory."""

    def __init__(self, array: NDArray[np.float32], device: torch.device) -> None:
        self._array = array
        self.device = device
        self.block = max(1, BLOCK_BYTES // max(1, array.itemsize * array.shape[1]))
        """Rows in a block."""

    def __len__(self) -> int:
        """N."""
        return len(self._array)

    def __getitem__(self, rows: slice) -> Tensor:
        """Rows that follow each other, (n, D)."""
        start, stop, _ = rows.indices(len(self))
        return torch.from_numpy(read_rows(self._array, start, stop)).to(self.device)

    def split(self, n: int) -> Iterator[Tensor]:
        """All rows in order, n at a time."""
        return (self[start : start + n] for start in range(0, len(self), n))

    def shuffled(self, batches: Sequence[slice], generator: Generator) -> Iterator[Tensor]:
        """As the function of this name."""
        rows, dim = self._array.shape
        order = torch.randperm(-(-rows // self.block), device=self.device, generator=generator).cpu().numpy()
        longest = max(batch.stop - batch.start for batch in batches)
        windows = -(-len(batches) // max(1, WINDOW_BYTES // (self._array.itemsize * dim) // longest))
        cuts = [i * len(batches) // windows for i in range(windows + 1)]  # all alike: none is of a few blocks only
        memory = torch.empty(min(rows, longest * -(-len(batches) // windows)), dim)
        for part in (batches[i:j] for i, j in pairwise(cuts)):
            first = part[0].start
            window = memory[: part[-1].stop - first]
            self._fill(window.numpy(), order, first)
            window = window.to(self.device)
            within = torch.randperm(len(window), device=self.device, generator=generator)
            for batch in part:
                yield window[within[batch.start - first : batch.stop - first]]

    def _fill(self, out: NDArray[np.float32], order: NDArray[np.int64], first: int) -> None:
        """What lies from place ``first`` on in the file's blocks in this order, as much as ``out`` (n, D) holds."""
        starts = order * self.block
        lengths = np.minimum(starts + self.block, len(self)) - starts  # the file's last block may be shorter
        ends = np.cumsum(lengths)
        done = 0
        block = int(np.searchsorted(ends, first, side="right"))
        while done < len(out):
            skipped = first + done - (ends[block] - lengths[block])
            start = starts[block] + skipped
            count = min(lengths[block] - skipped, len(out) - done)
            out[done : done + count] = read_rows(self._array, start, start + count)
            done += count
            block += 1

    def through(self, transform: Callable[[Tensor], tuple[Tensor, Tensor]], n: int) -> MappedRows:
        """As the function of this name."""
        with _scratch(self._array) as file:
            for part in self.split(n):
                file.write(np.ascontiguousarray(transform(part)[0].cpu().numpy()).data)
            file.flush()
            made = np.memmap(file, self._array.dtype, "r", shape=self._array.shape)
        return MappedRows(made, self.device)


def _scratch(array: Any) -> Any:
    """A file without a name, which is gone with its last map: beside the array's own, since /tmp may be memory."""
    with suppress(OSError, TypeError):
        return tempfile.TemporaryFile(dir=Path(array.filename).parent.parent)
    return tempfile.TemporaryFile()


def _room(device: str) -> int:
    """Bytes that a split may take on the device; a GPU's memory has nothing else to do."""
    if not device.startswith("cuda"):
        return WINDOW_BYTES
    return max(WINDOW_BYTES, torch.cuda.mem_get_info(device)[0] // 4)
