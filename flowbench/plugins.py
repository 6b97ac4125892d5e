"""Flows and datasets from outside the package: modules with what a file in ``flows/`` or ``datasets/`` has.

* ``flowbench train ./my_flow.py --data ./my_dataset.py``: `name_of` makes a file known by its stem, for this process.
* ``FLOWBENCH_PLUGINS`` lists folders, separated by ``os.pathsep``, with ``flows/my_flow.py`` and
  ``datasets/my_dataset.py`` in them. A name that begins with an underscore is private.
* An installed package has entry points in the groups ``flowbench.flows`` and ``flowbench.datasets``, each a module.

Where a user gives a flow or a dataset, `name_of` comes first: configurations, results and weights hold the name and
never a path. `find` then gives the plug-ins that stand beside flowbench's own files, and `Plugin.load` the module;
`flowbench.data.registry` shows how. `Plugin.digest` tells versions of a plug-in's code apart. Torch is not imported.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal

from flowbench.errors import UsageError
from flowbench.files import expanded

Kind = Literal["flows", "datasets"]

_NEEDED: dict[Kind, tuple[str, str]] = {"flows": ("Options", "build"), "datasets": ("CARD", "prepare")}
_given: dict[tuple[Kind, str], Path] = {}


@dataclass(frozen=True)
class Plugin:
    """A flow or a dataset that was found and is not imported yet; ``origin`` says where, for a reader."""

    kind: Kind
    name: str
    origin: str
    source: Path | EntryPoint

    @property
    def path(self) -> Path | None:
        """The module's file, if it has one. To find that of an entry point, the packages around it are imported."""
        if isinstance(self.source, Path):
            return self.source
        spec = importlib.util.find_spec(self.source.module)
        return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None

    @property
    def digest(self) -> str:
        """The sha256 (hex) of the module's file. Other modules that it imports have no part in it."""
        return hashlib.sha256(self.path.read_bytes() if self.path else self.origin.encode()).hexdigest()

    def load(self) -> ModuleType:
        """The module. If it fails to import, its own error is raised.

        Raises:
            UsageError: the module lacks a name that every flow or dataset has.
        """
        module = import_file(self.source) if isinstance(self.source, Path) else self.source.load()
        for name in _NEEDED[self.kind]:
            if not hasattr(module, name):
                hint = f"each of the {self.kind} defines {' and '.join(_NEEDED[self.kind])}"
                raise UsageError(f"{self.origin} does not define {name}", hint)
        return module


def name_of(kind: Kind, given: str) -> str:
    """The name of what a user gave, which is a name already or the path of a .py file.

    Raises:
        UsageError: there is no such file.
    """
    if not given.endswith(".py"):
        return given
    path = expanded(given).resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {given}", f"give the path of a Python file, or a name of {kind}")
    _given[kind, path.stem] = path
    return path.stem


def find(kind: Kind, own: Collection[str]) -> dict[str, Plugin]:
    """All plug-ins of this kind by name. Nothing is imported.

    Raises:
        UsageError: one has a name that is among flowbench's ``own``, or two have the same name.
    """
    found: dict[str, Plugin] = {}
    for plugin in (*_from_files(kind), *_from_packages(kind)):
        if plugin.name in own:
            raise UsageError(f"{plugin.origin}: {plugin.name!r} is the name of one of flowbench's {kind}", "rename it")
        other = found.setdefault(plugin.name, plugin)
        if other.source != plugin.source:
            raise UsageError(f"two {kind} have the name {plugin.name!r}: {other.origin}, {plugin.origin}", "rename one")
    return found


@functools.cache
def _import(path: Path, content: bytes) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"flowbench_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass in it looks its annotations up there
    try:
        exec(compile(content, path, "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[spec.name]
        error.add_note(f"This was raised while {path} was imported.")
        raise
    return module


def import_file(path: Path) -> ModuleType:
    """The module in a file, whose name need not be an identifier; it is imported again only when the file has changed.

    If it fails to import, its own error is raised.
    """
    return _import(path, path.read_bytes())


def _from_files(kind: Kind) -> Iterator[Plugin]:
    paths = [path for (of_kind, _), path in _given.items() if of_kind == kind]
    for folder in filter(None, os.environ.get("FLOWBENCH_PLUGINS", "").split(os.pathsep)):
        paths += sorted((expanded(folder).resolve() / kind).glob("[!_.]*.py"))
    return (Plugin(kind, path.stem, str(path), path) for path in paths)


def _from_packages(kind: Kind) -> Iterator[Plugin]:
    for point in _entry_points(kind, tuple(sys.path)):
        package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
        yield Plugin(kind, point.name, f"{point.value}{package}", point)


@functools.cache  # to look through all that is installed takes milliseconds, and every dataset asks
def _entry_points(kind: Kind, _: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=f"flowbench.{kind}")
