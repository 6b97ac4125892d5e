"""A trained flow in a file: safetensors, its configuration in the header. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from flowbench import flows
from flowbench.config import FlowOptions
from flowbench.data.discrete import Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Preprocessing
from flowbench.errors import DataError, UsageError
from flowbench.files import write_together
from flowbench.flows import Flow
from flowbench.training.older import upgraded

FORMAT = 2
"""Of the weights: dense matrices. Format 1, which has no number in its header, had them packed; see `older`."""


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


def content(flow: Flow, name: str, options: FlowOptions, about: About) -> bytes:
    """The flow's weights and statistics, as their file has them.

    The header (strict JSON) tells how to build the flow again, and what there is to know ``about`` it.
    """
    header = {"format": str(FORMAT), "flow": name, "dim": str(flow.dim), "options": options.model_dump_json()}
    if flow.given is not None:
        header["given"] = json.dumps(flow.given.classes)
    if about.discrete is not None:
        header["discrete"] = about.discrete.model_dump_json()
    header["about"] = about.model_dump_json()
    return _in_one_order(to_bytes({key: value.cpu().contiguous() for key, value in flow.state_dict().items()}, header))


def _in_one_order(content: bytes) -> bytes:
    """The file with its metadata in the order of their names, not in a random one: equal weights, equal bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def save(path: Path, flow: Flow, name: str, options: FlowOptions, about: About) -> None:
    """Write ``content``, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    write_together({path: content(flow, name, options, about)})


def load(path: Path) -> tuple[Flow, About]:
    """The flow in evaluation mode, on the CPU, and what there is to know about it.

    Raises:
        DataError: not weights of flowbench's, damaged, or with weights that a mask forbids.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        if int(header.get("format", 1)) > FORMAT:
            raise UsageError(f"its format is {header['format']}, this flowbench knows {FORMAT}", "upgrade flowbench")
        module = flows.load(header["flow"])
        with torch.random.fork_rng(devices=[]):  # building draws weights; loading must not move the caller's generator
            options = module.Options.model_validate_json(header["options"])
            given = tuple(json.loads(header.get("given", "[]")))
            discrete = TypeAdapter(Discrete | None).validate_json(header.get("discrete", "null"))
            flow = flows.built(module, int(header["dim"]), options, given, discrete)
        flow.load_state_dict(upgraded(state, flow))
        about = About.model_validate_json(header["about"])
    except UsageError as error:
        raise DataError(f"{path} holds no readable weights: {error}", error.hint) from error
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} holds no readable weights: {error}") from error
    return flow.eval(), about
