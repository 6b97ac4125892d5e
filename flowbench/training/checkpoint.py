"""A trained flow in a file: safetensors, its configuration in the header. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from flowbench import flows
from flowbench.config import FlowOptions
from flowbench.errors import DataError, UsageError
from flowbench.files import write_together
from flowbench.flows import Flow


def content(flow: Flow, name: str, options: FlowOptions, about: Mapping[str, Any]) -> bytes:
    """The flow's weights and statistics, as their file has them.

    The header tells how to build the flow again, and in ``about`` (strict JSON) what it was trained on and how.
    """
    header = {"flow": name, "dim": str(flow.dim), "options": options.model_dump_json(), "about": json.dumps(about)}
    return to_bytes({key: value.cpu().contiguous() for key, value in flow.state_dict().items()}, header)


def save(path: Path, flow: Flow, name: str, options: FlowOptions, about: Mapping[str, Any]) -> None:
    """Write ``content``, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    write_together({path: content(flow, name, options, about)})


def load(path: Path) -> tuple[Flow, dict[str, Any]]:
    """The flow in evaluation mode, on the CPU, and what ``save`` was told ``about`` it.

    Raises:
        DataError: not a checkpoint of flowbench's, damaged, or with weights that a mask forbids.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        module = flows.load(header["flow"])
        with torch.random.fork_rng(devices=[]):  # building draws weights; loading must not move the caller's generator
            flow = module.build(int(header["dim"]), module.Options.model_validate_json(header["options"]))
        flow.load_state_dict(state)
        about: dict[str, Any] = json.loads(header["about"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, UsageError) as error:
        raise DataError(f"{path} is not a readable checkpoint: {error}") from error
    return flow.eval(), about
