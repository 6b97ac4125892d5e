"""The folder of datasets is the registry: a file's name is the dataset's name. Plug-ins add to it from outside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from flowbench import plugins
from flowbench.config import shipped
from flowbench.data.card import Card
from flowbench.data.dataset import Dataset, Splits
from flowbench.data.preparing.truth import LogDensity
from flowbench.errors import DataError, UsageError, did_you_mean


class Recipe(Protocol):
    """A module in ``datasets/``, or a plug-in: its card, and how raw files become arrays.

    One whose rows have labels that can be given has their names, ``LABELS``, and ``labels(raw)``: for each of the three
    splits the places (N,) of its rows' labels among them. One that gives ``test_true_ll`` may have the density itself,
    ``log_prob(x)``: see `true_log_density`.
    """

    CARD: Card

    def prepare(self, raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
        """The splits, from raw files by the names on the card (none for embedded data)."""
        ...


def folder() -> Path:
    """The checkout's own ``datasets/`` if flowbench runs from one, else the copy that the wheel carries."""
    return shipped("datasets")


def names() -> list[str]:
    """The names of all datasets, sorted. Nothing is imported."""
    return sorted([*_own(), *plugged_in()])


def plugged_in() -> dict[str, plugins.Plugin]:
    """The datasets from outside the package, by name."""
    return plugins.find("datasets", _own())


def recipe(name: str) -> Recipe:
    """The dataset's module, by its name or the path of its file. If it fails to import, its own error is raised.

    Raises:
        UsageError: there is no such dataset, or a plug-in's card has another name than the plug-in.
    """
    name = plugins.name_of("datasets", name)
    if plugin := plugged_in().get(name):
        found = cast(Recipe, plugin.load())
        if found.CARD.name != name:
            # else it could pass for a known dataset, and published numbers would stand beside it
            raise UsageError(f"{plugin.origin} is named {name!r}, but its card {found.CARD.name!r}", "make them agree")
        return found
    if name not in _own():
        hint = (
            f"{did_you_mean(name, names())}; or give a path to a table (a .csv file, say), to a .py file, or ./FOLDER"
        )
        if name and Path(name).exists():
            hint = f"for the file or folder of that name write ./{name}; what is compressed, unpack first"
        raise UsageError(f"there is no dataset {name!r}", hint)
    return cast(Recipe, plugins.import_file(folder() / f"{name}.py"))


def card(name: str) -> Card:
    """The card of that name; see `recipe`."""
    return recipe(name).CARD


def true_log_density(dataset: Dataset) -> LogDensity | None:
    """The true log-density (N,) in nats of float64 rows (N, D), the ``log_prob`` of the dataset's module.

    None where no true density came with the test rows, or the module has it of them alone.

    Raises:
        DataError: it is another density than came with the first of the test rows.
    """
    if dataset.card is None or dataset.test_true_ll is None:
        return None
    found: LogDensity | None = getattr(recipe(dataset.card.name), "log_prob", None)
    if found and not np.allclose(found(dataset.test[:10].astype(np.float64)), dataset.test_true_ll[:10]):
        raise DataError(f"{dataset.card.name}: its log_prob(x) and its test_true_ll are not of one density")
    return found


def code_digest(name: str) -> str | None:
    """What tells versions of a plug-in's code apart, so that arrays made by other code are not taken from the cache.

    None for flowbench's own datasets, whose cards count their versions.
    """
    plugin = plugged_in().get(name)
    return None if plugin is None else plugin.digest


def _own() -> list[str]:
    return [path.stem for path in folder().glob("*.py")]
