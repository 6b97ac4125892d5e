"""A trained flow in a file: safetensors, its configuration in the header. Nothing is ever unpickled, or believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from torch import Tensor

from flowbench import flows
from flowbench.config import FlowOptions
from flowbench.data.discrete import Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Preprocessing
from flowbench.errors import DataError, UsageError, memory_granted, shortage
from flowbench.files import write_together
from flowbench.flows import Flow, FlowFile
from flowbench.flows.core.room import OPERATIONS, Room
from flowbench.training.older import upgraded
from flowbench.training.sealed import Sealed, first, read, sealed

FORMAT = SEALED = 3
"""Of the weights: with a checksum. Format 2 has none; format 1, which has no number, had them packed (see `older`)."""

BYTES, EACH = (32, 1 << 26), (256, 1 << 13)
"""That building a flow may take: bytes by those of its file's tensors, operations by their number; and always granted.

All flows of flowbench's take at most 11 bytes and 40 operations (twice and six times that, were a file of format 1).
"""

ANOTHER = "take another copy of it, or train it again"


class About(BaseModel):
    """What weights were trained on, how, and how the run ended.

    ``columns`` are the names of the raw columns, None where they have none. ``space`` is where the flow learnt them,
    ``preprocessing`` what leads there from raw values, None where that is not known; ``given`` what the density is
    conditional on, which are none of the ``columns``, and ``discrete`` what of these is no continuous number.
    """

    # settings may be infinite; strict JSON has a word for that
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    config: dict[str, Any] = {}
    data: str = ""
    data_fingerprint: str = ""
    space: str = "raw"
    columns: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    given: tuple[GivenColumn, ...] = ()
    discrete: Discrete | None = None
    status: str = "ok"

    @property
    def classes(self) -> tuple[int, ...]:
        """Of each given column the number of its classes, 0 of a number."""
        return tuple(column.classes for column in self.given)

    @model_validator(mode="before")
    @classmethod
    def _of_older_files(cls, document: Any) -> Any:
        """The preprocessing of files that give an own table's standardisation and noise in fields of their own."""
        if not isinstance(document, dict) or "preprocessing" in document or "location" not in document:
            return document
        if document["location"] is None:
            return document | {"preprocessing": None}
        noise = document.get("dequantised", {})
        if not isinstance(noise, dict):
            raise ValueError("dequantised is not a table of columns")
        steps = [{"kind": "standardise", "location": document["location"], "scale": document.get("scale")}]
        if noise:
            widths = [noise.get(name, 0.0) for name in document.get("columns") or ()]
            steps.insert(0, {"kind": "dequantise", "steps": widths, "origin": None})
        return document | {"preprocessing": steps}


class _Header(BaseModel):
    """What a file's metadata say beside ``about``: how to build the flow again.

    Before format 3 what is ``given`` and ``discrete`` was said here, too.
    """

    model_config = ConfigDict(frozen=True)

    format: PositiveInt = 1
    flow: str = Field(max_length=200)
    dim: int = Field(ge=1, le=1 << 31)
    options: str
    about: Json[About]
    given: Json[tuple[NonNegativeInt, ...]] | None = None
    discrete: Json[Discrete] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> _Header:
        if self.format < SEALED and (self.given or ()) != self.about.classes:
            raise ValueError("what it is given is not what it says it was trained on")
        if self.format < SEALED and self.discrete != self.about.discrete:
            raise ValueError("what of its rows is discrete is not what it says it was trained on")
        return self


def content(flow: Flow, name: str, options: FlowOptions, about: About) -> bytes:
    """The flow's weights and statistics, as their file has them.

    The metadata (strict JSON) tell how to build the flow again, and what there is to know ``about`` it. The columns
    that it is given, and what is discrete, are said there.
    """
    metadata = {"format": str(FORMAT), "flow": name, "dim": str(flow.dim), "options": options.model_dump_json()}
    return sealed(flow.state_dict(), metadata | {"about": about.model_dump_json()})


def save(path: Path, flow: Flow, name: str, options: FlowOptions, about: About) -> None:
    """Write ``content``, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    write_together({path: content(flow, name, options, about)})


def load(path: Path) -> tuple[Flow, About]:
    """The flow in evaluation mode, on the CPU, and what there is to know about it.

    Nothing is built that is larger than what the file holds, whatever it says.

    Raises:
        DataError: not weights of flowbench's, damaged, not finite, or with weights that a mask forbids.
        ShortOfMemoryError: there is not enough for it.
    """
    with memory_granted():
        try:
            found = read(path)
            header = _header(found)
            module = flows.load(header.flow)
            flow = _built(module, header, found)
            _load(flow, upgraded(found.tensors, flow))
        except UsageError as error:
            raise DataError(f"{path} holds no readable weights: {error}", error.hint) from error
        except ValidationError as error:
            raise DataError(f"{path} holds no readable weights: {first(error)}", ANOTHER) from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path} holds no readable weights: {error}", ANOTHER) from error
    return flow.eval(), header.about


def _header(found: Sealed) -> _Header:
    version = found.metadata.get("format", "1")
    if version.isdecimal() and len(version) < 10 and int(version) > FORMAT:
        raise UsageError(f"its format is {version}, this flowbench knows {FORMAT}", "upgrade flowbench")
    header = _Header.model_validate(found.metadata)
    if header.format >= SEALED and not found.proven:
        raise ValueError("it has lost its checksum: it was damaged or changed")
    return header


def _built(module: FlowFile, header: _Header, found: Sealed) -> Flow:
    """The flow that the header tells of, within what the file's tensors have room for."""
    options = module.Options.model_validate_json(header.options)
    held = sum(tensor.nbytes for tensor in found.tensors.values())
    operations = min(OPERATIONS, EACH[0] * len(found.tensors) + EACH[1])
    about = header.about
    # building draws weights; loading must not move the caller's generator
    with torch.random.fork_rng(devices=[]), Room(BYTES[0] * held + BYTES[1], operations=operations):
        try:
            return flows.built(module, header.dim, options, about.classes, about.discrete)
        except UsageError:
            raise
        except Exception as error:  # whatever options that a file made up lead a flow's code to
            if shortage(error):
                raise
            raise ValueError(f"its {header.flow} cannot be built: {error}") from error


def _load(flow: Flow, state: Mapping[str, Tensor]) -> None:
    """Take the state: tensors of the flow's own types, and finite where the flow's begin so.

    Raises:
        ValueError: it is another's, or not finite.
    """
    own = {**dict(flow.named_parameters(remove_duplicate=False)), **dict(flow.named_buffers(remove_duplicate=False))}
    for name, tensor in state.items():
        expected = own.get(name, flow.origin)  # a network's are all of one
        if tensor.dtype != expected.dtype:
            raise ValueError(f"{name} holds {tensor.dtype}, expected {expected.dtype}")
        if not _is_finite(tensor) and _is_finite(expected):
            what = "NaN" if tensor.isnan().any() else "an infinite value"
            raise ValueError(f"{name} holds {what}, from which no density comes")
    try:
        flow.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(shorten(str(error), 500)) from error


def _is_finite(tensor: Tensor) -> bool:
    """Whether all its numbers are: where their sum is, which takes no memory, or else each of them."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
