"""The folder of flows is the registry: a file's name is the flow's name on the command line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, cast

from flowbench import plugins
from flowbench.config import FlowOptions
from flowbench.errors import UsageError, did_you_mean
from flowbench.flows.core.flow import Flow


class FlowFile(Protocol):
    """What a flow's file provides."""

    Options: type[FlowOptions]

    def build(self, dim: int, options: Any) -> Flow:
        """The flow for rows of ``dim`` columns."""


def own_names() -> list[str]:
    """flowbench's own flows: the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parents[1].glob("*.py") if not path.stem.startswith("_"))


def names() -> list[str]:
    """The flows there are: flowbench's own, and those from outside (see `plugins`)."""
    return sorted([*own_names(), *plugins.find("flows", own_names())])


def code(name: str) -> str | None:
    """The digest of a flow's file from outside the package: with other code it is another flow. None for the others."""
    outside = {} if name in own_names() else plugins.find("flows", own_names())
    return outside[name].digest if name in outside else None


def load(name: str) -> FlowFile:
    """The flow's file; one that fails to import raises its own error.

    Raises:
        UsageError: there is none of that name.
    """
    if name in own_names():
        return cast("FlowFile", importlib.import_module(f"flowbench.flows.{name}"))
    outside = plugins.find("flows", own_names())
    if name not in outside:
        hint = f"{did_you_mean(name, names())}; a flow of your own is a path to a .py file, or in FLOWBENCH_PLUGINS"
        raise UsageError(f"unknown flow {name!r}", hint)
    return cast("FlowFile", outside[name].load())
