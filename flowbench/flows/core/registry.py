"""The folder of flows is the registry: a file's name is the flow's name on the command line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, cast

from flowbench.config import FlowOptions
from flowbench.errors import UsageError, did_you_mean
from flowbench.flows.core.flow import Flow


class FlowFile(Protocol):
    """What a flow's file provides."""

    Options: type[FlowOptions]

    def build(self, dim: int, options: Any) -> Flow:
        """The flow for rows of ``dim`` columns."""


def names() -> list[str]:
    """The flows there are: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parents[1].glob("*.py") if not path.stem.startswith("_"))


def load(name: str) -> FlowFile:
    """The flow's file.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in names():
        raise UsageError(f"unknown flow {name!r}", hint=did_you_mean(name, names()))
    return cast("FlowFile", importlib.import_module(f"flowbench.flows.{name}"))
