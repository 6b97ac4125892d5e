"""The folder of flows is the registry: a file's name is the flow's name on the command line."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from flowbench import plugins
from flowbench.config import FlowOptions
from flowbench.data.discrete import Discrete
from flowbench.errors import UsageError, did_you_mean
from flowbench.flows.core.categories import Categories
from flowbench.flows.core.flow import Flow
from flowbench.flows.core.given import Given
from flowbench.flows.core.mass import Mass
from flowbench.flows.core.tabular import Tabular


class FlowFile(Protocol):
    """What a flow's file provides."""

    Options: type[FlowOptions]

    def build(self, dim: int, options: Any, given: Given | None = None) -> Flow:
        """The flow for rows of ``dim`` columns; one that cannot be conditioned takes no ``given``."""


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
    plugin = outside[name]
    module = plugin.load()
    if not (isinstance(module.Options, type) and issubclass(module.Options, FlowOptions)):
        raise UsageError(f"{plugin.origin}: Options is no flowbench.config.FlowOptions", "derive it from that")
    return cast("FlowFile", module)


def build(
    name: str, dim: int, options: FlowOptions, given: Sequence[int] = (), discrete: Discrete | None = None
) -> Flow:
    """The flow of that name for rows of ``dim`` numbers, ``given`` columns of so many classes each (0: a number).

    With a ``discrete`` part of the rows it is the flow of their numbers, given the codes, beside a mass of these.

    Raises:
        UsageError: there is none of that name, it cannot be conditioned, or its file builds something else than a flow.
    """
    return built(load(name), dim, options, given, discrete)


def built(
    module: FlowFile, dim: int, options: FlowOptions, given: Sequence[int] = (), discrete: Discrete | None = None
) -> Flow:
    """As ``build``, of a flow's file."""
    if discrete is not None:
        if discrete.classes and not conditional(module):
            raise UsageError(
                "this flow models numbers alone: the table has columns of classes, values apart or missing ones",
                f"there are: {', '.join(_able())}",
            )
        numbers = built(module, dim, options, (*given, *discrete.classes))
        numbers = Mass(numbers, discrete.steps, discrete.origins) if discrete.steps else numbers
        classes = discrete.classes
        return Tabular(numbers, Categories(classes, given), discrete.tells_of) if classes else numbers
    if given and not conditional(module):
        hint = f"there are: {', '.join(_able())}"
        raise UsageError("this flow cannot be conditioned: its build takes no given", hint)
    flow = module.build(dim, options, Given(given)) if given else module.build(dim, options)
    if not isinstance(flow, Flow):
        raise UsageError(f"build returned {type(flow).__name__}, expected a flowbench.flows.Flow")
    return flow


def _able() -> list[str]:
    """flowbench's own flows that can be conditioned."""
    return [name for name in own_names() if conditional(load(name))]


def conditional(module: FlowFile) -> bool:
    """Whether a flow's file builds conditional densities, too."""
    return "given" in inspect.signature(module.build).parameters
