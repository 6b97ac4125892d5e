"""A trained latent variable model in a file: safetensors, its configuration in the header, a checksum of all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from flowbench.config import TrainingOptions
from flowbench.errors import DataError, UsageError, memory_granted
from flowbench.flows.core.room import OPERATIONS, Room
from flowbench.training.sealed import first, read, sealed
from flowbench.training.weights import BYTES
from flowbench.variational.approximation import options_of
from flowbench.variational.bound import LatentModel
from flowbench.variational.options import LatentOptions, PosteriorConfig
from flowbench.variational.order import build

KIND = "posterior"


class _Header(BaseModel):
    """What the file's metadata say: ``data`` names the rows of ``dim`` columns."""

    kind: str
    data: str
    dim: int
    config: str


def content(model: LatentModel, config: PosteriorConfig, data: str, dim: int) -> bytes:
    """The model's weights, as their file has them."""
    header = {"kind": KIND, "data": data, "dim": str(dim), "config": config.model_dump_json()}
    return sealed(model.state_dict(), header)


def load(path: Path) -> tuple[LatentModel, PosteriorConfig]:
    """The model in evaluation mode, on the CPU, and how it was trained; nothing larger is built than the file warrants.

    Raises:
        DataError: no weights of a posterior, or damaged.
        ShortOfMemoryError: there is not enough for it.
    """
    with memory_granted():
        try:
            found = read(path)
            header = _Header.model_validate(found.metadata)
            if header.kind != KIND or not found.proven:
                raise ValueError(f"it is no {KIND}, or has lost its checksum")
            config = _config(header.config)
            held = sum(tensor.nbytes for tensor in found.tensors.values())
            # building draws weights; loading must not move the caller's generator
            with torch.random.fork_rng(devices=[]), Room(BYTES[0] * held + BYTES[1], operations=OPERATIONS):
                model = build(config, header.data, header.dim)
            model.load_state_dict(found.tensors)
        except UsageError as error:
            raise DataError(f"{path} holds no readable posterior: {error}", error.hint) from error
        except ValidationError as error:
            raise DataError(f"{path} holds no readable posterior: {first(error)}") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{path} holds no readable posterior: {error}") from error
    return model.eval(), config


def _config(text: str) -> PosteriorConfig:
    """A configuration, its parts as their own options have them."""
    found = json.loads(text)
    if not isinstance(found, dict) or not {"flow", "model", "training", "latent"} <= found.keys():
        raise ValueError("its configuration is none")
    parts: dict[str, Any] = {
        "model": options_of(found["flow"]).model_validate(found.pop("model")),
        "training": TrainingOptions.model_validate(found.pop("training")),
        "latent": LatentOptions.model_validate(found.pop("latent")),
    }
    return PosteriorConfig(**found, **parts)
