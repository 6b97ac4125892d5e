"""Tensors in a file that proves itself: safetensors, with a checksum of all other bytes at the head of its metadata.

What such a file says of itself is not believed: it is read once, whole, and what it claims is held against its bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError
from rich.filesize import decimal
from safetensors.torch import save as to_bytes
from torch import Tensor

from flowbench.errors import first_fault
from flowbench.files import regular_file, size_of
from flowbench.memory import available_bytes

HEADER_BYTES, TENSORS, DIMENSIONS = 1 << 25, 100_000, 64
"""The most that a file's header has: of a hundred thousand columns with their names it has a third of that."""

CHECKSUM = "sha256"
_AT = 8
"""Where the header begins: after its length."""

_HEAD = f'{{"__metadata__":{{"{CHECKSUM}":"'.encode()
_DIGITS = slice(_AT + len(_HEAD), _AT + len(_HEAD) + 64)

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


@dataclass(frozen=True)
class Sealed:
    """What is in a file: its metadata and tensors. ``proven`` tells whether it had a checksum, which held."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    proven: bool


class _Entry(BaseModel):
    """What a header says of a tensor."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dtype: str
    shape: list[NonNegativeInt] = Field(max_length=DIMENSIONS)
    data_offsets: list[NonNegativeInt] = Field(min_length=2, max_length=2)


_METADATA, _ENTRIES = TypeAdapter(dict[str, str]), TypeAdapter(dict[str, _Entry])


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The file's content. Equal tensors and metadata give equal bytes: its header is in one order.

    Raises:
        ValueError: its header would be too long to be read again.
    """
    content = to_bytes({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, dict(metadata))
    size = int.from_bytes(content[:_AT], "little")
    entries = json.loads(content[_AT : _AT + size])
    head = {CHECKSUM: "0" * 64} | dict(sorted(metadata.items()))
    text = json.dumps(entries | {"__metadata__": head}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    if len(text) > HEADER_BYTES:
        raise ValueError(f"what there is to know of them takes {decimal(len(text))}, more than a header has")
    whole = bytearray(len(text).to_bytes(_AT, "little") + text)
    whole += memoryview(content)[_AT + size :]
    whole[_DIGITS] = _checksum(whole)
    return bytes(whole)


def read(path: Path) -> Sealed:
    """What is in a file.

    Raises:
        OSError: it cannot be read, or is not there.
        MemoryError: there is not enough for it.
        ValueError: it is no regular file, no such file, or is not what its checksum says.
    """
    return unsealed(content_of(path))


def content_of(path: Path) -> bytearray:
    """All bytes of a regular file, which no one else has.

    Raises:
        OSError: it cannot be read, or is not there.
        MemoryError: there is not enough for it.
        ValueError: it is no regular file.
    """
    with regular_file(path) as file:
        size, available = size_of(file), available_bytes()
        if available is not None and size > available:
            raise MemoryError(f"it has {decimal(size)}, and {decimal(available)} are available")
        content = bytearray(size)
        view, done = memoryview(content), 0
        while done < size and (got := file.readinto(view[done:])):
            done += got
        if done < size:
            raise ValueError("it became shorter while it was read")
    return content


def unsealed(content: bytearray) -> Sealed:
    """What is in a file's content; the tensors are views of it.

    Raises:
        ValueError: it is no such content, or not what its checksum says.
    """
    proven = content[_AT : _AT + len(_HEAD)] == _HEAD
    if proven and content[_DIGITS] != _checksum(content):
        raise ValueError("its content is not what its checksum says: it was damaged or changed")
    header, start = _header(content)
    metadata = _metadata(header.pop("__metadata__", {}))
    if metadata.pop(CHECKSUM, None) is not None and not proven:
        raise ValueError("its checksum is not where it belongs: it was damaged or changed")
    return Sealed(metadata, _tensors(_entries(header), memoryview(content)[start:]), proven)


def metadata_of(path: Path) -> dict[str, str]:
    """A file's metadata alone, as they are: neither the checksum nor the tensors are looked at.

    Raises:
        OSError: it cannot be read, or is not there.
        ValueError: it is no regular file, or no such file.
    """
    with regular_file(path) as file:
        start = file.read(_AT)
        return _metadata(_header(start + file.read(_header_size(start)))[0].get("__metadata__", {}))


def _checksum(content: bytearray) -> bytes:
    """The sha256 (hex) of all bytes but its own digits."""
    view = memoryview(content)
    found = hashlib.sha256(view[: _DIGITS.start])
    found.update(view[_DIGITS.stop :])
    return found.hexdigest().encode()


def _header_size(content: bytes | bytearray) -> int:
    size = int.from_bytes(content[:_AT], "little")
    if len(content) < _AT or size > HEADER_BYTES:
        raise ValueError("it does not begin as a safetensors file of flowbench's")
    return size


def _header(content: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """The header of what begins so, and where it ends."""
    end = _AT + _header_size(content)
    text = content[_AT:end]
    if len(content) < end:
        raise ValueError("it ends within its header")
    if text.count(b'"data_offsets"') > TENSORS:
        raise ValueError(f"its tensors are more than {TENSORS:,}")
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    return found, end


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("something is named twice")
    return found


def _metadata(found: Any) -> dict[str, str]:
    try:
        metadata = _METADATA.validate_python(found, strict=True)
        "".join((*metadata, *metadata.values())).encode()  # half a surrogate is no text
    except ValueError:
        raise ValueError("its metadata are no texts") from None
    return metadata


def _entries(header: dict[str, Any]) -> dict[str, _Entry]:
    try:
        return _ENTRIES.validate_python(header)
    except ValidationError as error:
        raise ValueError(f"its header is none of tensors: {first(error)}") from None


def _tensors(entries: dict[str, _Entry], data: memoryview) -> dict[str, Tensor]:
    """The tensors, which lie one after the other: no byte is two tensors', and none is nobody's."""
    found, end = {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        dtype = _TYPES.get(entry.dtype)
        if dtype is None:
            raise ValueError(f"its tensor {name!r} is none that a flow has")
        count = math.prod(entry.shape)
        if start != end or stop - start != count * dtype.itemsize or stop > len(data):
            raise ValueError(f"its tensor {name!r} does not lie where its header says")
        flat = torch.frombuffer(data, dtype=dtype, count=count, offset=start) if count else torch.empty(0, dtype=dtype)
        found[name], end = flat.reshape(entry.shape), stop
    if end != len(data):
        raise ValueError("it is longer than its tensors")
    return found


def first(error: ValidationError) -> str:
    """The first of what a validation found, in a line."""
    where, said = first_fault(error)
    return f"{where}: {said}" if where else said
