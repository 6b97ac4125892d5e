"""The folder of recipes is the registry: a file's name is the dataset's name."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from flowbench.config import shipped
from flowbench.data.card import Card
from flowbench.data.dataset import Splits
from flowbench.data.tables.files import KINDS
from flowbench.errors import UsageError, did_you_mean


class Recipe(Protocol):
    """A module in ``datasets/``: its card, and how raw files become arrays."""

    CARD: Card

    def prepare(self, raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
        """The splits, from raw files by the names on the card (none for embedded data)."""
        ...


def folder() -> Path:
    """The checkout's own ``datasets/`` if flowbench runs from one, else the copy that the wheel carries."""
    return shipped("datasets")


def names() -> list[str]:
    """All dataset names, sorted. Nothing is imported."""
    return sorted(path.stem for path in folder().glob("*.py"))


def recipe(name: str) -> Recipe:
    """The recipe of that name. A recipe that fails to import raises its own error.

    Raises:
        UsageError: there is no such recipe.
    """
    known = names()
    if name not in known:
        hint = f"{did_you_mean(name, known)}; or give a path to a {KINDS} file, or ./FOLDER"
        if Path(name).exists():
            hint = f"for the file or folder of that name write ./{name}; what is compressed, unpack first"
        raise UsageError(f"there is no dataset {name!r}", hint)
    return _import_recipe(folder() / f"{name}.py")


def card(name: str) -> Card:
    """The card of that name; see `recipe`."""
    return recipe(name).CARD


@functools.cache
def _import_recipe(path: Path) -> Recipe:
    # by path, because datasets/ is no package and `truth-gaussian` no identifier
    spec = importlib.util.spec_from_file_location(f"flowbench_dataset_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass in it looks its annotations up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return cast(Recipe, module)
