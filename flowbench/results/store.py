"""Records in files: one JSON a run, its weights and per-row test log-likelihoods beside it. Never imports torch.

The files beside a record are named after their own content, and the record names them. They are written first, so the
renaming of the record alone decides which are valid: nobody reads a record beside another run's weights.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flowbench.console import warn
from flowbench.errors import first_fault
from flowbench.files import expanded, small_content, write_together
from flowbench.results import beside
from flowbench.results import sketch as sketches
from flowbench.results.beside import content_digest, is_whole, npy
from flowbench.results.documents import (
    MOST_SHOWN,
    UnreadableRecordError,
    content,
    document,
    json_object,
    known,
    parsed,
    said,
)
from flowbench.results.fields import LARGEST
from flowbench.results.first_schema import from_v1
from flowbench.results.record import SCHEMA_VERSION, Files, Part, RunRecord, Trained
from flowbench.results.sketch import Sketch

T = TypeVar("T", bound=Trained)

_NUMBERS = re.compile(r'\[\n[^][{}"]*\]')  # no string holds a line break


def results_dir(out: Path | None = None) -> Path:
    """The folder of results: ``--out``, else ``FLOWBENCH_RESULTS_DIR``, else ``results`` in the working folder."""
    return expanded(out or os.environ.get("FLOWBENCH_RESULTS_DIR") or "results")


def write(
    record: Trained,
    folder: Path,
    test_lls: NDArray[np.floating[Any]] | None = None,
    weights: bytes | None = None,
    sketch: Sketch | None = None,
) -> Path:
    """Write ``<folder>/<record.run>.json``, which names the files written beside it, and return its path.

    ``test_lls`` (N_test,), the per-row test log-likelihoods in nats (or what else was measured of a row), go beside it
    as little-endian float32 ``.npy`` (4 bytes a row: what a flow computes has no more digits, and a baseline is kept in
    git), ``weights`` as ``.safetensors``, the ``sketch`` as JSON in ``.sketch``. The files of a record that was there
    before are removed afterwards. Whoever reads meanwhile, and whatever ends this half way, sees the old record with
    its own files or the new one with its own.

    Raises:
        UsageError: they cannot be written.
        UnreadableRecordError: a newer flowbench's record would be replaced.
    """
    path = folder / f"{record.run}.json"
    refuse_newer(path)
    contents = {
        "npy": None if test_lls is None else npy(test_lls),
        "safetensors": weights,
        "sketch": None if sketch is None else sketches.content(sketch),
    }
    there = {kind: content for kind, content in contents.items() if content is not None}
    named = {kind: f"{record.run}.{content_digest(content)}.{kind}" for kind, content in there.items()}
    files = Files(weights=named.get("safetensors"), test_lls=named.get("npy"), sketch=named.get("sketch"))
    record = record.model_copy(update={"files": files})
    candidates = _beside(path) | set(named.values())
    try:
        write_together(
            {folder / name: there[kind] for kind, name in named.items()} | {path: strict_json(record)}
        )  # the record last: where it is, the rest is
    finally:
        for name in candidates - _beside(path):  # whichever record is there now
            with suppress(OSError):  # where nothing can be removed nothing was written, and that is told
                (folder / name).unlink(missing_ok=True)
    return path


def strict_json(record: Part) -> bytes:
    """The record as its file has it."""
    return as_written(record.model_dump(mode="json"))


def as_written(document: dict[str, Any]) -> bytes:
    """A document as files of results have it, each list of numbers on one line."""
    text = json.dumps(document, indent=2, allow_nan=False)
    return (_NUMBERS.sub(lambda found: " ".join(found.group().split()), text) + "\n").encode()


def read(path: Path) -> RunRecord:
    """The record of a run in a file; see `read_as`."""
    return read_as(RunRecord, path)


def read_as(kind: type[T], path: Path) -> T:
    """The record of a training of this kind in a file.

    Raises:
        UnreadableRecordError: the file is damaged, of a newer schema, or no record of this kind.
    """
    return parsed(path, document(path), kind, from_v1)


def warn_of(_: Path, error: UnreadableRecordError) -> None:
    """Warn of a damaged record, which is passed over."""
    warn(f"passed over: {error}" + (f" ({error.hint})" if error.hint else ""))


def read_all(
    folder: Path,
    on_damage: Callable[[Path, UnreadableRecordError], None] = warn_of,
    on_other: Callable[[Path, dict[str, Any]], None] = lambda _, found: None,
) -> dict[Path, RunRecord]:
    """All records of runs under ``folder``, subfolders too, in the order of their paths.

    Records of other kinds go to ``on_other``, which passes over them. What has a record's name and is none is passed
    over after ``on_damage``, which warns: a damaged file, a folder, a pipe, a link in a circle.
    """
    found = {}
    for path in record_files(folder, on_damage):
        try:
            record = _read_run(path)
            if isinstance(record, RunRecord):
                found[path] = record
            else:
                on_other(path, record)
        except UnreadableRecordError as error:
            on_damage(path, error)
    return found


def record_files(
    root: Path,
    on_damage: Callable[[Path, UnreadableRecordError], None],
    enters: Callable[[Path], bool] = lambda _: True,
) -> Iterator[Path]:
    """All under ``root`` that has a record's name, in the order of paths, in those folders that it ``enters``.

    Folders that are not ours to read go to ``on_damage``; links to folders are not followed.
    """
    waiting = [(str(root), True)]
    while waiting:  # no recursion: folders may lie in each other a thousand times
        path, is_folder = waiting.pop()
        if not is_folder:
            yield Path(path)
            continue
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            on_damage(Path(path), UnreadableRecordError(f"{path} cannot be read: {error.strerror}"))
            continue
        for entry in entries:
            is_record = entry.name.endswith(".json")
            if is_record or (entry.is_dir(follow_symlinks=False) and enters(Path(entry.path))):
                waiting.append((entry.path, not is_record))


def finished(folder: Path, run: str) -> RunRecord | None:
    """The record of a run, see `finished_as`."""
    return finished_as(RunRecord, folder, run)


def finished_as(kind: type[T], folder: Path, run: str) -> T | None:
    """The record of ``run`` if it ended ``ok`` and is whole: with its weights and its rows' likelihoods, undamaged.

    What is there and is not, is warned of; no other run is ever taken for done.

    Raises:
        UnreadableRecordError: a newer flowbench wrote it.
    """
    path = folder / f"{run}.json"
    refuse_newer(path)
    try:
        record = read_as(kind, path) if os.path.lexists(path) else None
    except UnreadableRecordError as error:
        warn_of(path, error)
        return None
    if record is None or record.status != "ok":
        return None
    for name in (record.files.weights, record.files.test_lls):
        if name is None or not is_whole(folder / name):
            warn(f"{path} is no finished run any more: {name or 'a file beside it'} is not there, or is damaged")
            return None
    return record


def refuse_newer(path: Path) -> None:
    """Leave a record alone that this flowbench cannot read because it is older.

    Raises:
        UnreadableRecordError: there is one in ``path``.
    """
    try:
        found = json_object(path, content(path))
    except UnreadableRecordError:
        return  # not there, or of no use to anybody
    known(path, found)


def remove(path: Path) -> None:
    """Remove the record in ``path``, if there is one, and what is beside it."""
    names = _beside(path)
    with suppress(OSError):
        path.unlink(missing_ok=True)
        for name in names:
            (path.parent / name).unlink(missing_ok=True)


def read_test_lls(record: Trained, folder: Path) -> NDArray[np.float64] | None:
    """The per-row test log-likelihoods (N_test,) in nats beside a record in ``folder``; None where there are none.

    Raises:
        UnreadableRecordError: the file is damaged.
    """
    if record.files.test_lls is None:
        return None
    path = folder / record.files.test_lls
    try:
        content, lls = beside.read(path, record.task.n_test, LARGEST)
        named = path.name.removesuffix(".npy").rpartition(".")[2]
        # the first schema's names tell nothing
        if path.name != f"{record.run}.npy" and named != content_digest(content):
            raise ValueError("its content is not what it is named after")
        return lls
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UnreadableRecordError(f"{path} is damaged: {said(error)}", "run it again with --force") from error


def read_sketch(record: RunRecord, folder: Path) -> Sketch | None:
    """The sketch beside a record in ``folder``; None where there is none.

    Raises:
        UnreadableRecordError: the file is damaged, or of a newer schema.
    """
    if record.files.sketch is None:
        return None
    path = folder / record.files.sketch
    try:
        content = small_content(path, sketches.MOST_BYTES)
        if path.stem.rpartition(".")[2] != content_digest(content):
            raise ValueError("its content is not what it is named after")
        known(path, json_object(path, content), sketches.SCHEMA_VERSION)
        return Sketch.model_validate_json(content)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        where, fault = first_fault(error)
        said_of_it = f"{where[:MOST_SHOWN]}: {fault}"
        raise UnreadableRecordError(f"{path} is damaged: {said_of_it}", "run it again with --force") from error
    except (OSError, ValueError) as error:
        raise UnreadableRecordError(f"{path} is damaged: {said(error)}", "run it again with --force") from error


def weights(path: Path) -> Path | None:
    """The weights that the record in ``path`` names, None where there is none.

    Raises:
        UnreadableRecordError: the record is damaged.
    """
    weights = path.parent / (_files(path).weights or "")
    return weights if weights.is_file() else None


def _read_run(path: Path) -> RunRecord | dict[str, Any]:
    """As ``read``; the object as it is where it is of another kind: a record of times, or what was printed as JSON."""
    whole = content(path)
    with suppress(ValueError):  # an older schema, another kind, or no record: what follows tells them apart
        record = RunRecord.model_validate_json(whole)  # twice as fast as by way of a document
        if record.schema_version == SCHEMA_VERSION:
            return record
    found = json_object(path, whole)
    if found.get("kind", "run") != "run":
        return found
    return parsed(path, known(path, found), RunRecord, from_v1)


class _WithFiles(Part):
    files: Files = Files()


def _files(path: Path) -> Files:
    """Those that the record in ``path`` names, whichever training it is of; raises as `read`."""
    found = document(path)
    if found.get("kind", "run") == "run":
        return parsed(path, found, RunRecord, from_v1).files
    return parsed(path, found, _WithFiles, dict).files


def _beside(path: Path) -> set[str]:
    """The names of the files that belong to the record in ``path``, if one is there: what it says of others' is not."""
    try:
        files = _files(path)
    except UnreadableRecordError:
        return set()
    return {name for name in files.names if name.startswith(f"{path.stem}.")}
