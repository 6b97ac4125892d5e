"""What a dataset lacks, from its publisher or out of the ready-made archive, into the data folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.filesize import decimal

from flowbench.console import note, warn
from flowbench.data import registry
from flowbench.data.card import READY_MADE, Card, RawFile
from flowbench.data.sources import raw
from flowbench.data.sources.download import UnavailableError, download
from flowbench.data.sources.storing import alone
from flowbench.data.sources.unpack import unpack
from flowbench.errors import DataError, UsageError, did_you_mean

Source = Literal["raw", "ready-made"]
"""raw: the files of the dataset's publisher. ready-made: members of the archive `READY_MADE`."""


@dataclass(frozen=True)
class Fetched:
    """A file that was not there before: its URL (the archive's, if it is a member; None where that lay there already),
    content (sha256 hex) and length.
    """

    path: Path
    url: str | None
    sha256: str
    n_bytes: int


@dataclass(frozen=True)
class Report:
    """What became of one dataset."""

    dataset: str
    status: Literal["embedded", "present", "fetched", "failed"]
    folder: Path
    files: tuple[Fetched, ...] = ()
    error: DataError | None = None

    @property
    def summary(self) -> str:
        """One line for a reader."""
        size = decimal(sum(file.n_bytes for file in self.files))
        said = {
            "embedded": "needs no files",
            "present": f"already in {self.folder}",
            "fetched": f"{', '.join(file.path.name for file in self.files)} ({size}) in {self.folder}",
            "failed": f"{self.error}",
        }
        return f"{self.dataset}: {said[self.status]}"

    def document(self) -> dict[str, Any]:
        """Itself as strict JSON has it."""
        files = [
            {"path": str(file.path), "url": file.url, "sha256": file.sha256, "bytes": file.n_bytes}
            for file in self.files
        ]
        error = None if self.error is None else str(self.error)
        folder = None if self.status == "embedded" else str(self.folder)
        return {"dataset": self.dataset, "status": self.status, "folder": folder, "files": files, "error": error}


def fetch(card: Card, source: Source | None = None) -> list[Fetched]:
    """Download what is missing of a dataset and return that; nothing if all is there, or embedded.

    Without ``source`` the publisher is asked, and if a file cannot be had there, the ready-made archive stands in.

    Raises:
        UsageError: the dataset is not in the ready-made archive, from which it is to be taken.
        DataError: FLOWBENCH_OFFLINE is set, no server has the files, or the data folder cannot be written to. The
            hint says how to get them by hand.
    """
    if is_there(card, source):
        return []
    if source is None and card.ready_made and _is_offline() and _archive().is_file():
        source = "ready-made"
    if source == "ready-made" and not card.ready_made:
        raise UsageError(f"{card.name} is not in the ready-made archive", "leave --from out")
    lacking = raw.missing_files(card)
    by_hand = raw.where_from(card, lacking)
    if _is_offline() and not (source == "ready-made" and _archive().is_file()):
        names = ", ".join(file.name for file in lacking)
        raise DataError(f"{card.name}: missing {names}, and FLOWBENCH_OFFLINE is set", by_hand)
    try:
        return list(_from_archive(card) if source == "ready-made" else _from_publisher(card))
    except UnavailableError as error:
        if source is not None or not card.ready_made:
            raise DataError(f"{card.name}: {error}", by_hand) from error
        warn(f"{card.name}: {error}; taking it out of the ready-made archive")
    try:
        return list(_from_archive(card))
    except UnavailableError as error:
        raise DataError(f"{card.name}: {error}", by_hand) from error


def fetch_all(names: Iterable[str], source: str | None) -> list[Report]:
    """Fetch datasets one after the other; one that cannot be had is reported and does not keep the others back.

    Raises:
        UsageError: there is no such dataset or source.
    """
    cards = [registry.card(name) for name in names]
    chosen = _source(source)
    return [_report(card, chosen) for card in cards]


def document(reports: Sequence[Report]) -> dict[str, Any]:
    """What was fetched, as strict JSON has it."""
    return {"datasets": [report.document() for report in reports]}


def is_there(card: Card, source: Source | None = None) -> bool:
    """Whether nothing is missing of that source, or of either."""
    if card.embedded:
        return True
    if source == "raw":
        return not raw.missing_files(card)
    if source == "ready-made":
        return bool(card.ready_made) and not raw.missing_members(card)
    return raw.status(card) == "present"


def _source(name: str | None) -> Source | None:
    for known in get_args(Source):
        if name == known:
            return known
    if name is not None:
        raise UsageError(f"there is no source {name!r}", did_you_mean(name, get_args(Source)))
    return None


def _report(card: Card, source: Source | None) -> Report:
    folder = raw.data_dir() / card.name
    try:
        files = tuple(fetch(card, source))
    except DataError as error:
        return Report(card.name, "failed", folder, error=error)
    return Report(card.name, "embedded" if card.embedded else "fetched" if files else "present", folder, files)


def _from_publisher(card: Card) -> Iterator[Fetched]:
    folder = raw.data_dir() / card.name
    with alone(folder):
        for file in raw.missing_files(card):  # asked again: another process may have brought them meanwhile
            url = _download(file, folder)
            yield _fetched(folder / file.name, url)


def _from_archive(card: Card) -> Iterator[Fetched]:
    archive, folder = _archive(), raw.data_dir() / card.name
    with alone(archive.parent):
        url = None if archive.is_file() else _download(READY_MADE, archive.parent)
    if url is None and raw.hash_file(archive, "md5") != READY_MADE.md5:
        warn(
            f"{archive} is not the published archive ({READY_MADE.checksum}); its members are checked by their content"
        )
    with alone(folder):
        for path in unpack(archive, raw.missing_members(card), folder):
            yield _fetched(path, url)
    note(f"{archive} is kept for the other datasets in it; delete it when you need none of them")


def _archive() -> Path:
    return raw.data_dir() / READY_MADE.name


def _download(file: RawFile, folder: Path) -> str:
    if not (file.sha256 or file.md5):
        note(f"{file.name} has no published checksum: its content is checked when it is prepared")
    return download(file, folder)


def _fetched(path: Path, url: str | None) -> Fetched:
    return Fetched(path, url, raw.hash_file(path, "sha256"), path.stat().st_size)


def _is_offline() -> bool:
    return os.environ.get("FLOWBENCH_OFFLINE", "").lower() not in ("", "0", "false", "no")
