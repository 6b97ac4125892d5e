"""A record as it is carried to another folder: what it is, and the files beside it. Never imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowbench.files import regular_file
from flowbench.results import beside
from flowbench.results.costs import CostComparison, TimeRecord
from flowbench.results.documents import UnreadableRecordError, content, json_object, known, parsed
from flowbench.results.first_schema import from_v1
from flowbench.results.record import SCHEMA_VERSION, Files, Part, RunRecord, Trained
from flowbench.results.store import as_written
from flowbench.results.sweeps import Sweep
from flowbench.results.variational import PosteriorRecord, TargetRecord

CHUNK = 1 << 20
"""Bytes that are copied at a time."""

_KINDS: Mapping[str, type[Part]] = {
    "run": RunRecord,
    "posterior": PosteriorRecord,
    "target": TargetRecord,
    "time": TimeRecord,
    "cost-comparison": CostComparison,
    "sweep": Sweep,
}

_LISTS_OF_RUNS = "runs", "chosen", "not_chosen"
"""What a sweep says of runs, by their names."""

_DIGEST = re.compile(rf"[0-9a-f]{{{beside.DIGITS}}}")

Renaming = Callable[[str], str]
"""What a run of the record's folder is called elsewhere."""


@dataclass(frozen=True)
class Carried:
    """A record in a file, as far as it must be known to be told from others.

    ``stem`` is what its file is called after: its run's or sweep's name, and an ending such as ``.unfinished``.
    ``identity`` is the digest of all it says but for that name, its schema and its files, and ``sha256`` that of its
    bytes. ``files`` are the names of those beside it, by the fields of `Files`, and ``digests`` those of their content;
    None where there is no such file.
    """

    path: Path
    kind: str
    name: str
    stem: str
    identity: str
    sha256: str
    ended_well: bool
    files: Mapping[str, str]
    digests: Mapping[str, str | None]

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Of one name the least keeps it: what ended well, in a file of its name. Sweeps come after their runs."""
        return self.kind == "sweep", not self.ended_well, self.path.stem != self.stem

    def is_part_of(self, other: Carried) -> bool:
        """Whether ``other`` is the same record, with all files that this one has."""
        return self.identity == other.identity and all(
            digest in (None, other.digests.get(field)) for field, digest in self.digests.items()
        )

    def renamed(self, number: int) -> tuple[str, str, dict[str, str]]:
        """Its name, its stem and its files as the ``number``-th of its name: those that it has, of the first."""
        if number == 1:
            return self.name, self.stem, dict(self.files)
        name = f"{self.name}-{number}"
        files = {
            field: name + (file.removeprefix(self.name) if file.startswith(f"{self.name}.") else f".{file}")
            for field, file in self.files.items()
        }
        return name, name + self.stem.removeprefix(self.name), files

    def written(self, name: str, files: Mapping[str, str], run_is: Renaming) -> bytes:
        """Its content under this name: the same bytes where nothing in it is called otherwise.

        Raises:
            UnreadableRecordError: it is not there any more, or another one.
        """
        found = content(self.path)
        if hashlib.sha256(found).hexdigest() != self.sha256:
            raise UnreadableRecordError(f"{self.path} has changed meanwhile", "merge again")
        before = json_object(self.path, found)
        after = _sweep_elsewhere(before, run_is) if self.kind == "sweep" else dict(before)
        if name != self.name:
            after["name" if self.kind == "sweep" else "run"] = name
            if isinstance(before.get("files"), dict):  # the first schema's have their run's name
                after["files"] = before["files"] | dict(files)
        try:
            return found if after == before else as_written(after)
        except ValueError as error:  # NaN, which JSON has no word for
            raise UnreadableRecordError(f"{self.path} cannot be given another name: {error}") from error


def read(path: Path, run_is: Renaming = lambda run: run) -> Carried:
    """The record in a file, in which the runs of a sweep are called as ``run_is`` says.

    Raises:
        UnreadableRecordError: it is damaged, of a newer schema, or of a kind that is not known.
    """
    whole = content(path)
    found = known(path, json_object(path, whole))
    kind = found.get("kind", "run")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise UnreadableRecordError(f"{path} is a record of no kind that is known")
    record = parsed(path, _sweep_elsewhere(found, run_is) if kind == "sweep" else found, model, _upgraded(model))
    name: str = record.name if isinstance(record, Sweep) else record.run  # type: ignore[attr-defined]
    ending = path.stem.removeprefix(name) if path.stem.startswith(f"{name}.") else ""
    files, digests = _files(record, path.parent, found) if isinstance(record, Trained) else ({}, {})
    return Carried(
        path=path,
        kind=kind,
        name=name,
        stem=name + ending,
        identity=_identity(record),
        sha256=hashlib.sha256(whole).hexdigest(),
        ended_well=getattr(record, "status", "ok") == "ok",
        files=files,
        digests=digests,
    )


def parts(path: Path, digest: str | None) -> Iterator[bytes]:
    """The content of a file beside a record, some at a time.

    Raises:
        OSError: it cannot be read, or is not there.
        ValueError: it is no regular file, or its content has another ``digest``.
    """
    sha = hashlib.sha256()
    with regular_file(path) as file:
        while part := file.read(CHUNK):
            sha.update(part)
            yield part
    if digest not in (None, sha.hexdigest()[: beside.DIGITS]):
        raise ValueError("its content is not what it is named after")


def digest_of(path: Path) -> str | None:
    """The digest of a file's content; None where there is no file that can be read."""
    with suppress(OSError, ValueError), regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[: beside.DIGITS]
    return None


def _upgraded(model: type[Part]) -> Callable[[Any], dict[str, Any]]:
    return from_v1 if model is RunRecord else lambda old: old | {"schema_version": SCHEMA_VERSION}


def _identity(record: Part) -> str:
    said = record.model_dump(mode="json", exclude={"schema_version", "run", "name", "files"})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _files(record: Trained, folder: Path, found: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str | None]]:
    """The names of the files beside a record, and the digests of their content, which most are named after."""
    names = {field: getattr(record.files, field) for field in Files.model_fields}
    files = {field: name for field, name in names.items() if name is not None}
    if found.get("schema_version") == 1:  # which names all that there can be
        files = {field: name for field, name in files.items() if os.path.lexists(folder / name)}
    digests: dict[str, str | None] = {}
    for field, name in files.items():
        named_after = Path(name).stem.rpartition(".")[2]
        digests[field] = named_after if _DIGEST.fullmatch(named_after) else digest_of(folder / name)
    return files, digests


def _sweep_elsewhere(found: Mapping[str, Any], run_is: Renaming) -> dict[str, Any]:
    """A sweep's document where its runs are called otherwise; what is no list of names stays for its reader."""
    lists = {key: found[key] for key in _LISTS_OF_RUNS if isinstance(found.get(key), list)}
    renamed = {key: [run_is(run) if isinstance(run, str) else run for run in runs] for key, runs in lists.items()}
    return {**found, **renamed}
