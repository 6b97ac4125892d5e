"""What a run left in its weights: a density, and the names of the columns that it is one of."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from flowbench.console import warn
from flowbench.data.discrete import dequantised
from flowbench.errors import DataError, UsageError, did_you_mean
from flowbench.files import expanded
from flowbench.flows.core.density import Density
from flowbench.results import store
from flowbench.results.beside import is_whole
from flowbench.results.documents import UnreadableRecordError
from flowbench.training import weights

NAMED = 10
"""Runs that a message names."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A density in raw units; in the flow's own ``space`` where the file does not know more, or that is wanted.

    ``columns`` are the names of its columns, None where they have none. ``raw`` tells which of the two it is. What it
    is given is the density's own.
    """

    density: Density
    columns: tuple[str, ...] | None
    space: str
    raw: bool

    def in_flow_space(self) -> Trained:
        """The same flow without its preprocessing; what is given stays as it is in tables.

        Raises:
            UsageError: some of its rows is discrete: classes and values apart are the table's own.
        """
        if self.density.discrete is not None:
            raise UsageError(
                "rows with classes, values apart or missing ones, or with masses of steps are a table's own",
                "leave --space flow out",
            )
        return dataclasses.replace(self, density=Density(self.density.flow, given=self.density.given), raw=False)

    @property
    def names(self) -> tuple[str, ...]:
        """What its columns are called: their names, or 0, 1, ..."""
        return self.columns or tuple(str(i) for i in range(self.density.dim))

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the columns that it is given."""
        return tuple(column.name for column in self.density.given)

    @property
    def noisy(self) -> list[str]:
        """The names of the columns that were learnt with noise."""
        return [*dequantised(self.columns, self.density.preprocessing, self.density.discrete)]


def load(path: Path, device: str = "cpu") -> Trained:
    """What a run left in its weights, on ``device``; with a warning if the run did not end well.

    Raises:
        DataError: not weights of flowbench's, damaged, or of a flow without a run.
    """
    flow, about = weights.load(path)
    try:
        density = Density(flow.to(device), about.preprocessing or (), about.given, about.discrete)
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}", "train it again") from error
    if about.columns is not None and len(about.columns) != density.dim:
        raise DataError(f"{path} is damaged: its columns are not {density.dim}", "train it again")
    if about.status != "ok":
        was = "was " if about.status == "interrupted" else ""
        warn(f"the run of {path} {was}{about.status}: these are the weights it had")
    return Trained(density, about.columns, about.space, about.preprocessing is not None)


def find(run: str, folder: Path) -> Path:
    """The weights of a run: ``run`` is its name in the folder of results, or a path to its .safetensors.

    Raises:
        UsageError: there is no run of that name.
        DataError: there is no file at that path.
    """
    path = expanded(run)
    if path.suffix == ".json":
        found = _weights(path)
        return _its_own(found, path) if found else _there(path.with_suffix(".safetensors"))
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        return _there(path)
    path = folder / f"{run}.json"
    found = _weights(path)
    if found is None:
        there = [other.stem for other in sorted(folder.glob("*.json")) if _weights(other)]
        alike = [name for name in there if name.startswith(run)] or there
        known = did_you_mean(run, alike[:NAMED]) if there else "it has none: `flowbench train` makes one"
        raise UsageError(f"{folder} has no trained run {run!r}", f"{known}; or give a path to its .safetensors file")
    return _its_own(found, path)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"there is no file {path}", "give a run's name, or a path to its .safetensors")
    return path


def _its_own(weights: Path, record: Path) -> Path:
    """The weights that a record names.

    Raises:
        DataError: they are another run's, or damaged: their content is not what they are named after.
    """
    if weights.stem != store.read(record).run and not is_whole(weights):  # the first schema's names tell nothing
        raise DataError(f"{weights} is not what it is named after: another run's, or damaged", "train it again")
    return weights


def _weights(path: Path) -> Path | None:
    """The weights of the record in ``path``, if it has one."""
    with contextlib.suppress(UnreadableRecordError):
        return store.weights(path)
    return None
