"""A file of tensors proves itself, and is not believed."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as by_safetensors

from flowbench.training.sealed import CHECKSUM, metadata_of, read, sealed, unsealed

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7), "none": torch.empty(0, 4)}
METADATA = {"format": "3", "about": '{"é": 1}'}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(sealed(TENSORS, METADATA))
    found = read(path)
    assert found.proven
    assert found.metadata == METADATA
    assert metadata_of(path).items() > METADATA.items()
    assert {name: (t.shape, t.dtype) for name, t in found.tensors.items()} == {
        name: (t.shape, t.dtype) for name, t in TENSORS.items()
    }
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())
    others = by_safetensors(path.read_bytes())  # it is what everybody reads
    assert torch.equal(others["a.weight"], TENSORS["a.weight"])


def test_equal_tensors_give_equal_bytes() -> None:
    backwards = dict(reversed(METADATA.items()))
    assert len({sealed(TENSORS, metadata) for metadata in (METADATA, backwards) for _ in range(5)}) == 1


def test_every_flipped_bit_is_noticed() -> None:
    content = sealed(TENSORS, METADATA)
    bits = random.Random(0).sample(range(8 * len(content)), 400)
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = unsealed(damaged)
        except ValueError:
            continue
        assert not found.proven  # in what a checksum is known by: for a format that has one, that is damage


def rewritten(change: Callable[[dict[str, object]], object], data: bytes = b"\0" * 24) -> bytearray:
    """A file without a checksum whose header was changed: of two tensors, f of 4 numbers and i of 1."""
    header: dict[str, object] = {
        "__metadata__": {"format": "2"},
        "f": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "i": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]},
    }
    changed = change(header)
    text = changed if isinstance(changed, bytes) else json.dumps(header).encode()
    return bytearray(struct.pack("<Q", len(text)) + text + data)


def entry(**more: object) -> Callable[[dict[str, object]], object]:
    return lambda header: header.update(f={"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | more)


LIES: dict[str, Callable[[dict[str, object]], object]] = {
    "a type of no one": entry(dtype="F31"),
    "a type of another size": entry(dtype="F64"),
    "a size of another shape": entry(shape=[2, 3]),
    "a huge shape": entry(shape=[10**400, 10**400]),
    "a negative one": entry(shape=[-2, -2]),
    "a shape of words": entry(shape=["2", "2"]),
    "a shape of truth": entry(shape=[True, 4]),
    "too many dimensions": entry(shape=[4] + [1] * 100_000),
    "tensors that overlap": lambda header: header.update(i={"dtype": "I64", "shape": [], "data_offsets": [8, 16]}),
    "a gap": entry(shape=[1, 2], data_offsets=[0, 8]),
    "data that are not there": entry(shape=[2**40], data_offsets=[0, 2**42]),
    "one offset": entry(data_offsets=[0]),
    "more than a tensor": entry(also=1),
    "no object": lambda header: b"[1]",
    "no JSON": lambda header: b"{",
    "depth": lambda header: b'{"a":' * 100_000,
    "a number of any length": lambda header: b'{"f":' + b"1" * 10_000 + b"}",
    "something twice": lambda header: b'{"f":1,"f":2}',
    "metadata that are no object": lambda header: header.update(__metadata__=[1]),
    "metadata that are no texts": lambda header: header.update(__metadata__={"format": 2}),
    "half a surrogate": lambda header: b'{"__metadata__":{"about":"\\ud800"}}',
    "a checksum elsewhere": lambda header: header.update(__metadata__={"format": "3", CHECKSUM: "0" * 64}),
    "too many tensors": lambda header: b'"data_offsets"' * 100_001,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(lie: str) -> None:
    unsealed(rewritten(lambda header: None))
    with pytest.raises(ValueError, match=r"^its "):
        unsealed(rewritten(LIES[lie]))


@pytest.mark.parametrize("length", [0, 1, 2**24, 2**60, 2**64 - 1])
def test_a_length_that_lies_is_refused(length: int, tmp_path: Path) -> None:
    content = rewritten(lambda header: None)
    content[:8] = struct.pack("<Q", length)
    (tmp_path / "x").write_bytes(content)
    for reader in (read, metadata_of):
        with pytest.raises(ValueError, match=r"^its? "):
            reader(tmp_path / "x")


@pytest.mark.parametrize("kept", [0, 7, 8, 50, -24, -1])
def test_what_is_cut_off_is_refused(kept: int) -> None:
    for content in (bytearray(sealed(TENSORS, METADATA)), rewritten(lambda header: None)):
        with pytest.raises(ValueError):  # noqa: PT011  # where it is cut off says which
            unsealed(content[:kept])
        with pytest.raises(ValueError, match=r"checksum|longer"):
            unsealed(content + b"\0")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    for reader in (read, metadata_of):
        with pytest.raises(ValueError, match="no regular file"):
            reader(tmp_path / "x")
