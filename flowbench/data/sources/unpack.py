"""Chosen members out of an archive, and nothing else of it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from flowbench.data.sources.raw import reading
from flowbench.data.sources.storing import ensure_room, storing
from flowbench.errors import DataError

_BLOCK = 1 << 20


def unpack(archive: Path, members: Iterable[str], folder: Path) -> list[Path]:
    """Write ``members`` of a tar archive, compressed or not, into ``folder`` under their base names.

    Where a file lands is decided by ``members`` alone: the archive's own names are compared with them and never become
    a path, so none can leave the folder. Each file takes its name when it is complete.

    Raises:
        DataError: the archive is damaged, lacks a member or has a link or a device in its place; or the folder cannot
            be written to.
    """
    wanted = dict.fromkeys(members)
    written: list[Path] = []
    with reading(archive), tarfile.open(archive, "r|*") as stream:
        for member in stream:
            if not wanted:
                return written
            name = member.name.removeprefix("./")
            if name not in wanted:
                continue
            source = stream.extractfile(member) if member.isreg() else None
            if source is None:
                raise DataError(f"{archive}: {name} is not a plain file", "it is not the published archive: delete it")
            ensure_room(folder, member.size, name)
            written.append(_write(source, folder / PurePosixPath(name).name))
            del wanted[name]
    if wanted:
        raise DataError(f"{archive} has no {', '.join(wanted)}", "it is not the published archive: delete it")
    return written


def _write(source: IO[bytes], path: Path) -> Path:
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with storing(path.parent):
            target = unfinished.open("wb")
        with target:
            while block := source.read(_BLOCK):
                with storing(path.parent):
                    target.write(block)
        with storing(path.parent):
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
