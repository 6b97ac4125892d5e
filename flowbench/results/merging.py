"""Folders of results put together: every record once, with its files, and none in another's place. No torch.

Nothing that is in the folder they go to is changed, and what comes is copied files first, record last: whatever ends
this half way, what is there is whole, and the same command does the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path

from flowbench.console import warn
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.files import sweep, write_new
from flowbench.results.carried import Carried, digest_of, parts, read
from flowbench.results.documents import UnreadableRecordError, said
from flowbench.results.fields import LONGEST_FILE_NAME
from flowbench.results.store import record_files

MOST_TURNS = 10
"""That are taken at a record while another process writes to the same folder."""


@dataclass
class Merged:
    """What became of the records: the paths of those that were ``there``, and in the folder they were ``copied`` to.

    ``same`` are those that were found again and kept once. ``renamed`` has, by the path of a record, that of its copy
    under a name of its own, since a different record has its name. ``passed_over`` says of each record that was not
    copied, and of each file beside one, why. ``missing`` are the files that records name and that are not there.
    ``unfinished`` are folders of checkpoints, which stay where they are.
    """

    there: list[Path] = field(default_factory=list)
    copied: list[Path] = field(default_factory=list)
    same: list[Path] = field(default_factory=list)
    renamed: dict[Path, Path] = field(default_factory=dict)
    passed_over: dict[Path, str] = field(default_factory=dict)
    missing: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)

    def pass_over(self, path: Path, error: Exception | str) -> None:
        """Take down why one was, and warn of it."""
        self.passed_over[path] = str(error)
        hint = getattr(error, "hint", None)
        warn(f"passed over: {error}" + (f" ({hint})" if hint else ""))


def merge(sources: Sequence[Path], out: Path, told: Callable[[str], None] = lambda _: None) -> Merged:
    """Copy all records under ``sources``, with the files beside them, to where they are not yet under ``out``.

    A record keeps its place in the folder it comes from. Where one of another content has its name, it takes the next
    name that is free, in itself and in what its sweeps say. ``told`` is told what is under way.

    Raises:
        UsageError: a source is no folder, or ``out`` cannot be written.
        NothingToCompareError: there is no record in the sources.
    """
    for source in sources:
        if not source.is_dir():
            raise UsageError(f"{source} is no folder", "name folders of results")
    merged = Merged()
    merging = _Merging(out, merged, told)
    merging.leave(record_files(out, merged.pass_over) if out.is_dir() else ())
    others = [source for source in sources if not _is(source, out)]
    merging.take_in([(root, path) for root in others for path in _paths(root, out, merged)])
    if not merged.copied and not merged.same:
        raise NothingToCompareError("there is nothing to merge: no records were found", "name folders of results")
    return merged


def _paths(root: Path, out: Path, merged: Merged) -> Iterator[Path]:
    """The records under a source, without those of ``out`` if it lies in it."""

    def enters(folder: Path) -> bool:
        if folder.parent.name == "unfinished" and any(folder.glob("[0-9]*.safetensors")):
            merged.unfinished.append(folder)
        return not _is(folder, out)

    return record_files(root, merged.pass_over, enters)


def _is(folder: Path, other: Path) -> bool:
    return folder.is_dir() and other.is_dir() and os.path.samefile(folder, other)


class _Merging:
    """What is in a folder, and what is copied there."""

    def __init__(self, out: Path, merged: Merged, told: Callable[[str], None]) -> None:
        self._out, self._merged, self._told = out, merged, told
        self._kept: dict[str, list[Carried]] = {}  # by identity
        self._stems: set[str] = set()
        self._seen: set[Path] = set()
        self._called: dict[tuple[Path, str], str] = {}  # runs of a folder that have another name in this one
        self._place = cache(self._checked_place)

    def leave(self, paths: Iterable[Path]) -> None:
        """Know the records that are there."""
        for path in paths:
            self._seen.add(path)
            try:
                self._keep(read(path))
            except UnreadableRecordError as error:
                self._merged.pass_over(path, error)
            else:
                self._merged.there.append(path)

    def take_in(self, found: Iterable[tuple[Path, Path]]) -> None:
        """Copy the records, each with its source, that are not there, in the order of their ranks."""
        records = []
        for root, path in found:
            self._told(f"reading {path.name}")
            try:
                records.append((root, read(path)))
            except UnreadableRecordError as error:
                self._merged.pass_over(path, error)
        for root, record in sorted(records, key=lambda each: each[1].rank):
            try:  # by now it is known what a sweep's runs are called
                self._take(root, read(record.path, self._naming(record)) if record.kind == "sweep" else record)
            except UnreadableRecordError as error:
                self._merged.pass_over(record.path, error)

    def _take(self, root: Path, record: Carried) -> None:
        """Have the record, once, with its files.

        Raises:
            UnreadableRecordError: it cannot be read any more.
            UsageError: it cannot be written.
        """
        place = self._place(record.path.parent.relative_to(root))
        for _ in range(MOST_TURNS):
            with suppress(FileExistsError):  # another process is at work there, too: what it has made is looked at
                kept = self._found_again(record) or self._copied(record, place)
                if kept.name != record.name:
                    self._called[record.path.parent, record.name] = kept.name
                return
        raise UsageError(f"{place} is being written to by another process", "merge again when it has ended")

    def _found_again(self, record: Carried) -> Carried | None:
        """The same record where it is there, with all files that either has; None where it is not."""
        same = next((kept for kept in self._kept.get(record.identity, ()) if record.is_part_of(kept)), None)
        if same is None:
            return None
        for of, name in record.files.items():
            if (source := record.path.parent / name).exists() and record.digests[of] is not None:
                self._copy(source, same.path.parent / same.files[of], record.digests[of])
        self._merged.same.append(record.path)
        return same

    def _copied(self, record: Carried, place: Path) -> Carried:
        """The record in its new place, under the first name that is free.

        Raises:
            FileExistsError: something has come that nobody has looked at.
        """
        name, stem, files = next(each for n in count(1) if self._is_free(record, place, *(each := record.renamed(n))))
        path = place / f"{stem}.json"
        if max(len(os.fsencode(each)) for each in (path.name, *files.values())) > LONGEST_FILE_NAME:
            raise UnreadableRecordError(f"{record.path} cannot be copied: {path.name[:40]}… is too long a name")
        content = record.written(name, files, self._naming(record))
        for of, file in files.items():
            self._copy(record.path.parent / record.files[of], place / file, record.digests[of])
        write_new(path, [content])
        self._seen.add(path)
        copy = replace(record, path=path, name=name, stem=stem, files=files)
        self._keep(copy)
        self._merged.copied.append(path)
        if name != record.name:
            self._merged.renamed[record.path] = path
        return copy

    def _keep(self, record: Carried) -> None:
        self._kept.setdefault(record.identity, []).append(record)
        self._stems.add(record.stem)

    def _naming(self, record: Carried) -> Callable[[str], str]:
        return lambda run: self._called.get((record.path.parent, run), run)

    def _is_free(self, record: Carried, place: Path, name: str, stem: str, files: Mapping[str, str]) -> bool:
        """Whether nothing has the name, and no other content that of a file beside it.

        Raises:
            FileExistsError: what has it was not there before, and is known now.
        """
        path = place / f"{stem}.json"
        if os.path.lexists(path) and path not in self._seen:
            self.leave([path])
            raise FileExistsError
        if stem in self._stems or path in self._seen:
            return False
        there = {of: place / file for of, file in files.items() if os.path.lexists(place / file)}
        return all(digest_of(path) == digest_of(record.path.parent / record.files[of]) for of, path in there.items())

    def _copy(self, source: Path, target: Path, digest: str | None) -> None:
        """Copy a file that is beside a record, which can be read without one that is missing or damaged."""
        if os.path.lexists(target):
            return  # with this content
        self._told(f"copying {source.name}")
        try:
            write_new(target, parts(source, digest))
        except FileExistsError:
            raise
        except FileNotFoundError:
            self._merged.missing.append(source)
        except (OSError, ValueError) as error:
            self._merged.pass_over(source, f"{source}: {said(error)}")

    def _checked_place(self, below: Path) -> Path:
        """The folder for what lies there below its source; no link, since nobody looks for records behind one.

        Raises:
            UsageError: it is one.
        """
        place = self._out / below
        for folder in (place, *place.parents[: len(below.parts) - 1]) if below.parts else ():
            if folder.is_symlink():
                raise UsageError(f"{folder} is a link to another folder", "merge into that one, or remove the link")
        sweep(place)
        return place
