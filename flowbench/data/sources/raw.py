"""Raw files: where they lie, whether they are what the card says, and reading them without trusting them."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
import platformdirs
from numpy.typing import NDArray
from rich.filesize import decimal

from flowbench.console import warn_once
from flowbench.data import known
from flowbench.data.card import READY_MADE, Card, RawFile
from flowbench.errors import DataError, reason_of
from flowbench.files import expanded

_BUFFER = 1 << 16
_MOST_AXES = 8


def data_dir() -> Path:
    """The folder of raw files, one folder a dataset in it. Only `fetch` writes to it: it may be read-only."""
    chosen = os.environ.get("FLOWBENCH_DATA_DIR")
    return expanded(chosen) if chosen else platformdirs.user_cache_path("flowbench") / "raw"


def status(card: Card) -> str:
    """``embedded`` (no raw files needed), ``present``, ``missing``, or ``unreadable`` where nobody can tell."""
    if card.embedded:
        return "embedded"
    try:
        return "missing" if _whole_source(card) is None else "present"
    except OSError:  # a folder that is another user's is no reason not to list the others
        return "unreadable"


def find(card: Card, *, partial: bool = False) -> dict[str, Path]:
    """The raw files by the names on the card; if they are not all there, the ready-made members by their base names.

    A member lies beside the raw files, or where the archive left it, unpacked in the data folder. With ``partial``,
    some of the publisher's files are enough, or else some of the members.

    Raises:
        DataError: both sources miss a file; the hint says from where to get it, where to put it, and its checksum.
    """
    source = _whole_source(card)
    if source is None and partial:
        source = some_of(card) or None
    if source is None:
        missing = missing_files(card)
        raise DataError(f"{card.name}: missing {', '.join(file.name for file in missing)}", where_from(card, missing))
    return source


def some_of(card: Card) -> dict[str, Path]:
    """What there is of the first source of which there is anything, by the same names."""
    return next((found for found in _sources(card) if found), {})


def find_labels(card: Card, source: Mapping[str, Path]) -> dict[str, Path]:
    """The files of labels by the names on the card, where the ``source`` that `find` gave does not hold them itself.

    Raises:
        DataError: one is missing; the hint says from where to get it, and where to put it.
    """
    if not card.label_files or not any(file.name in source for file in card.files):
        return {}
    # of images that are not there, none are needed
    wanted = [own for own, images in zip(card.label_files, card.files, strict=True) if images.name in source]
    found = {file.name: _locate(card, file) for file in wanted}
    missing = [file for file in wanted if found[file.name] is None]
    if missing:
        lines = "".join(f"\n  {file.url}" for file in missing)
        raise DataError(
            f"{card.name}: missing its labels, {', '.join(file.name for file in missing)}",
            f"put into {data_dir() / card.name} (FLOWBENCH_DATA_DIR sets the folder above it):{lines}",
        )
    return {name: path for name, path in found.items() if path is not None}


def missing_files(card: Card) -> list[RawFile]:
    """The publisher's files that are not there, under none of their names."""
    return [file for file in card.files if _locate(card, file) is None]


def missing_members(card: Card) -> list[str]:
    """The members of the ready-made archive that are not there."""
    return [member for member in card.ready_made if _locate_member(card, member) is None]


def lying_there(card: Card) -> list[Path]:
    """All files and folders of the dataset in the data folder, under any of their names, parts of downloads too."""
    own, folder = (*card.files, *card.label_files), data_dir() / card.name
    names = [name for file in own for name in (file.name, *file.alternatives, *parts_of(file))]
    members = [path for each in card.ready_made for path in (folder / PurePosixPath(each).name, data_dir() / each)]
    return [path for path in (*(folder / name for name in names), *members) if os.path.lexists(path)]


def parts_of(file: RawFile) -> tuple[str, str]:
    """The names of what has come of a download that broke off, and of what is known of it."""
    return f"{file.name}.part", f"{file.name}.part.json"


def where_from(card: Card, missing: Sequence[RawFile]) -> str:
    """How to get files by hand, or the ready-made ones in their place: URLs, folder, checksums."""
    wanted = "".join(f"\n  {file.url}\n    ({file.checksum})" for file in missing)
    hint = f"put into {data_dir() / card.name} (FLOWBENCH_DATA_DIR sets the folder above it):{wanted}"
    if card.ready_made:
        members = ", ".join(card.ready_made)
        hint += f"\nor unpack in {data_dir()}: {members} of\n  {READY_MADE.url}\n    ({READY_MADE.checksum})"
    return hint


def fingerprint(card: Card, raw: Mapping[str, Path], code_digest: str | None = None) -> str:
    """The sha256 (hex) of the card's version, the files that `find` gave (names and content), and a plug-in's code.

    A file whose checksum is not the card's gets a warning and no more: archives are recompressed while their contents
    stay, and the card's shapes and Gaussian value judge those.
    """
    published = {file.name: file for file in card.files}
    whole = hashlib.sha256(f"{card.name} v{card.version}\n".encode())
    if code_digest:
        whole.update(f"{code_digest}\n".encode())
    for name, path in raw.items():
        digest = hash_file(path, "sha256")
        whole.update(f"{name} {digest}\n".encode())
        file = published.get(name)
        if file is not None and path.name == name and _differs(file, path, digest):
            warn_once(
                f"{path} is not the published file ({file.checksum}) but has sha256 {digest}: "
                "used if its content passes the card's checks, and recorded under its own fingerprint"
            )
    return whole.hexdigest()


def hash_file(path: Path, algorithm: str) -> str:
    """The file's checksum in hex; a folder's is that of the names and checksums of the files in it."""
    with reading(path):
        if path.is_dir():
            inside = sorted(member for member in path.iterdir() if member.is_file())
            listing = "".join(f"{member.name} {hash_file(member, algorithm)}\n" for member in inside)
            return hashlib.new(algorithm, listing.encode()).hexdigest()
        with path.open("rb") as stream:
            return known.digest(
                path, stream.fileno(), algorithm, lambda: hashlib.file_digest(stream, algorithm).hexdigest()
            )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong in reading and parsing ``path`` inside becomes one error that names the file.

    Raises:
        DataError: the file cannot be read, is cut short, or is not what it should be.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = reason_of(error)
        hint = "it may be cut short or damaged: get it again, and compare its size and checksum with the source's"
        raise DataError(f"cannot read {path}: {reason}", hint) from error


@contextmanager
def opened(path: Path, member: str, most: int) -> Iterator[IO[bytes]]:
    """The bytes of ``path``: unpacked if it is gzipped, of the file named ``member`` in it if it is a zip.

    Whoever reads more than ``most`` bytes of it reads another file than was published, or a trap.

    Raises:
        DataError: as `reading`, which it includes.
    """
    with reading(path), ExitStack() as stack:
        if path.suffix == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            inside = [each for each in archive.infolist() if PurePosixPath(each.filename).name == member]
            if not inside:
                raise ValueError(f"there is no {member} in it")
            # others unpack whatever a piece of them expands to, all at once
            if inside[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"its {member} is compressed in an unusual way")
            stream = stack.enter_context(archive.open(inside[0]))
        elif path.suffix == ".gz":
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(path)))
        else:
            stream = stack.enter_context(path.open("rb"))
        yield stack.enter_context(io.BufferedReader(_Bounded(stream, most), _BUFFER))


class _Bounded(io.RawIOBase):
    """A stream that is an error once it has given more than ``most`` bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most, self._given = stream, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, place: Any) -> int:
        content = self._stream.read(len(place))
        self._given += len(content)
        if self._given > self._most:
            raise ValueError(f"it has more than {decimal(self._most)} unpacked, and so has no file that was published")
        place[: len(content)] = content
        return len(content)


def content(stream: IO[bytes], most: int) -> bytes:
    """All that a stream gives.

    Raises:
        ValueError: it is more than ``most`` bytes.
    """
    found = stream.read(most + 1)
    if len(found) > most:
        raise ValueError(f"it holds more than the {decimal(most)} that were published")
    return found


def read_npy(path: Path, n_columns: int) -> NDArray[np.float64]:
    """A table (N, n_columns) of numbers from a .npy file; never a pickled one."""
    with reading(path):
        # mapped first: a header that promises more than the file holds is found out, not allocated
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.ndim != 2 or rows.shape[1] != n_columns:
            raise ValueError(f"it has shape {rows.shape}, expected (rows, {n_columns})")
        return np.array(rows, np.float64)


def read_idx(path: Path, most: int) -> NDArray[np.uint8]:
    """An array from an idx file of unsigned bytes, gzipped or not (http://yann.lecun.com/exdb/mnist/).

    Format: two zero bytes, type 8, the number of axes, each axis' length as a big-endian int32, then the bytes, of
    which ``most`` are read.
    """
    with reading(path), path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
        head = stream.read(4)
        if head[:3] != b"\x00\x00\x08":
            raise ValueError(f"it begins with {head.hex()}, an idx file of bytes with 000008")
        if len(head) < 4 or head[3] > _MOST_AXES:
            raise ValueError("it does not begin as an idx file of images or labels")
        lengths = stream.read(4 * head[3])
        shape = tuple(int(n) for n in np.frombuffer(lengths, ">i4", count=head[3]))
        n_bytes, promised = math.prod(shape), f"its header promises {' x '.join(map(str, shape))} bytes"
        if min(shape, default=0) < 0 or n_bytes > most:
            raise ValueError(f"{promised}, and {most:,} are the most that it may be")
        body = stream.read(n_bytes + 1)
        if len(body) != n_bytes:
            raise ValueError(f"{promised}, {len(body) if len(body) < n_bytes else 'more'} follow")
        return np.frombuffer(body, np.uint8).reshape(shape)


def _whole_source(card: Card) -> dict[str, Path] | None:
    """The first of a dataset's sources of which every file is there."""
    own, members = _sources(card)
    if len(own) == len(card.files):
        return own
    return members if card.ready_made and len(members) == len(card.ready_made) else None


def _sources(card: Card) -> list[dict[str, Path]]:
    """The files that are there: the publisher's, and the ready-made archive's."""
    own = {file.name: _locate(card, file) for file in card.files}
    members = {PurePosixPath(member).name: _locate_member(card, member) for member in card.ready_made}
    return [{name: path for name, path in each.items() if path is not None} for each in (own, members)]


def _locate(card: Card, file: RawFile) -> Path | None:
    candidates = (data_dir() / card.name / name for name in (file.name, *file.alternatives))
    return next((path for path in candidates if path.exists()), None)


def _locate_member(card: Card, member: str) -> Path | None:
    candidates = (data_dir() / card.name / PurePosixPath(member).name, data_dir() / member)
    return next((path for path in candidates if path.is_file()), None)


def _differs(file: RawFile, path: Path, sha256: str) -> bool:
    if file.sha256:
        return sha256 != file.sha256
    return file.md5 is not None and hash_file(path, "md5") != file.md5
