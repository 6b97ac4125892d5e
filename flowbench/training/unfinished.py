"""What is kept of a run until it is finished: a folder of checkpoints."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flowbench.console import warn, warn_once
from flowbench.errors import DataError, FlowbenchError, UsageError
from flowbench.files import refuges, write_together
from flowbench.results.beside import content_digest
from flowbench.results.record import Environment
from flowbench.training.sealed import content_of, first, metadata_of, sealed, unsealed
from flowbench.training.state import Numbers, State, UnfitStateError

FORMAT = 1

KEPT = 2
"""Checkpoints of a run: where the newest is damaged, there is the one before."""


class About(BaseModel):
    """What a checkpoint is of: the run, the order that leads to its configuration and data, and where it was done.

    ``goes_on_by`` is the command that goes on with it, but for the folder: empty in older files. ``changed`` tells what
    was different after earlier breaks. ``seconds`` are those of the whole run.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    format: int = FORMAT
    run: str
    kin: str
    order: dict[str, Any]
    goes_on_by: tuple[str, ...] = ()
    config: dict[str, Any]
    rows_sha256: dict[str, str]
    environment: Environment
    started_at: str
    seconds: float
    changed: tuple[str, ...] = ()


class DamagedCheckpointError(FlowbenchError):
    """What is in a checkpoint is none: the one before it may serve."""


@dataclass(frozen=True)
class Checkpoint:
    """A training that can be gone on with; ``numbers`` are its state's."""

    path: Path
    about: About
    numbers: dict[str, Any]

    @property
    def state(self) -> State:
        """Where it was, read anew each time: four times the flow's size.

        Raises:
            UnfitStateError: it is not there any more, or damaged since.
            DataError: the system does not let it be read.
        """
        try:
            return State(unsealed(_content(self.path)).tensors, self.numbers)
        except (FileNotFoundError, ValueError) as error:
            raise UnfitStateError(f"it cannot be read any more: {error}") from error


class Unfinished:
    """The checkpoints of a run: in the folder of results, or where that takes nothing, in a refuge."""

    def __init__(self, folder: Path, run: str) -> None:
        self.run = run
        self._places = [place_of(root, run) for root in (folder, *refuges(folder))]

    def write(self, about: About, state: State) -> None:
        """Write a checkpoint, whole or not at all, and remove all but the last two. What fails is warned of."""
        try:
            self._write(about, state)
        except MemoryError:  # the training goes on without
            warn_once("no checkpoint can be written: there is not enough memory")
        except ValueError as error:  # of so many epochs that its header is too long
            warn_once(f"no checkpoint can be written: {error}")

    def _write(self, about: About, state: State) -> None:
        # strict JSON has no word for NaN, and a likelihood may be one: as Python has it
        header = {"about": about.model_dump_json(), "numbers": json.dumps(state.numbers)}
        content = sealed(state.tensors, header)
        number, reason = max((_number(path) for path in self._paths()), default=0) + 1, ""
        for place in self._places:
            try:
                write_together({place / f"{number:06}.{content_digest(content)}.safetensors": content})
            except UsageError as error:
                reason = reason or str(error)
                continue
            if reason:
                warn_once(f"{reason}: checkpoints go to {place}")
            break
        else:
            warn_once(f"no checkpoint can be written: {reason}")
        for path in self._paths()[:-KEPT]:
            with suppress(OSError):
                path.unlink()

    def newest(self, before: Path | None = None) -> Checkpoint | None:
        """The newest checkpoint that is not damaged, of those ``before`` one; what is, is warned of.

        Raises:
            DataError: the system does not let one be read: it may be as it was, and nothing may take its place.
        """
        paths = self._paths()
        if before is not None:
            paths = paths[: paths.index(before)] if before in paths else []
        for path in reversed(paths):
            try:
                return read(path)
            except DamagedCheckpointError as error:
                warn(f"{error}; the checkpoint before it is taken, if there is one")
        return None

    def exists(self) -> bool:
        """Whether there are any, damaged ones too."""
        return bool(self._paths())

    def adopt(self, other: Path) -> None:
        """Take the checkpoints in a folder of another name."""
        for path in _checkpoints(other):
            with suppress(OSError):  # a folder that takes nothing: they are used where they are
                self._places[0].mkdir(parents=True, exist_ok=True)
                shutil.move(path, self._places[0] / path.name)

    def remove(self) -> None:
        """Remove all checkpoints: the run is finished."""
        for path in self._paths():
            with suppress(OSError):
                path.unlink()
        for place in self._places[1:]:
            with suppress(OSError):
                place.rmdir()

    def _paths(self) -> list[Path]:
        """The checkpoints, the newest last."""
        return sorted((path for place in self._places for path in _checkpoints(place)), key=_number)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file.

    Raises:
        DamagedCheckpointError: it is none, damaged, or of a later flowbench.
        DataError: the system does not let it be read.
    """
    try:
        content = _content(path)
        if path.stem.rpartition(".")[2] != content_digest(content):
            raise ValueError("its content is not what it is named after")
        metadata = unsealed(content).metadata
        about = About.model_validate_json(metadata["about"])
        if about.format > FORMAT:
            raise ValueError(f"its format is {about.format}, this flowbench knows {FORMAT}")
        return Checkpoint(path, about, _numbers(metadata["numbers"]))
    except ValidationError as error:
        raise DamagedCheckpointError(f"{path} is not a readable checkpoint: {first(error)}") from error
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise DamagedCheckpointError(f"{path} is not a readable checkpoint: {error}") from error


def _content(path: Path) -> bytearray:
    """All bytes of a checkpoint; memory that is short says nothing of them, and goes on to the caller."""
    try:
        return content_of(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        hint = "start the same command again when it can be; --restart begins anew"
        raise DataError(f"{path} cannot be read: {error.strerror or error}", hint) from error


def _numbers(text: str) -> dict[str, Any]:
    """A state's numbers, each of its own kind."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("its numbers are too deep") from None
    Numbers.model_validate(found)
    return dict(found)


def abouts(folder: Path, kin: str | None = None) -> dict[Path, About]:
    """What the newest checkpoint of each unfinished run (of this kin) is of, by the folder of its checkpoints."""
    found = {}
    for root in (folder, *refuges(folder)):
        for place in sorted((root / "unfinished").glob("*")):
            for path in reversed(_checkpoints(place)):
                with suppress(OSError, MemoryError, KeyError, ValueError):
                    found[place] = About.model_validate_json(metadata_of(path)["about"])
                    break
    return {place: about for place, about in found.items() if kin in (None, about.kin)}


def place_of(root: Path, run: str) -> Path:
    """The folder of what is kept of an unfinished run."""
    return root / "unfinished" / run


def _checkpoints(place: Path) -> list[Path]:
    return sorted(place.glob("[0-9]*.safetensors"), key=_number)


def _number(path: Path) -> int:
    number = path.name.partition(".")[0]
    return int(number) if number.isdigit() else 0
