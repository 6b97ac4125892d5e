"""Files that are written whole or not at all, and small ones that are read without trust."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import platform
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import platformdirs
from rich.filesize import decimal

from flowbench.errors import UsageError

ABANDONED_SECONDS = 24 * 3600.0
"""What is unfinished and has not been touched for so long is what a killed process left, on whatever machine."""

_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""To open a file that may be a pipe, without waiting for whoever writes to it."""


def expanded(path: str | Path) -> Path:
    """The path, its ``~`` or ``~user`` the home of whom it names.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no such user", "write the whole path, or ./~… for that name") from error


def utf8(path: Path) -> str:
    """The path as a text that every file may hold, with the bytes of a name that are no UTF-8 spelt out."""
    return os.fsencode(path).decode(errors="backslashreplace")


def small_content(path: Path, most: int) -> bytes:
    """What is in a regular file of ``most`` bytes at the most; nothing of any other is read, or waited for.

    Raises:
        OSError: it cannot be read, or is not there.
        ValueError: it is a folder, a pipe, a device or larger.
    """
    with regular_file(path) as file:
        size = size_of(file)
        if size > most:
            raise ValueError(f"it has {decimal(size)}, and {decimal(most)} are the most that it may")
        return file.read(size)


def regular_file(path: Path) -> FileIO:
    """A regular file, open to be read; nothing of any other is read, or waited for.

    Raises:
        OSError: it cannot be read, or is not there.
        ValueError: it is a folder, a pipe or a device.
    """
    file = os.open(path, _AT_ONCE)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return FileIO(file)
    os.close(file)
    raise ValueError("it is no regular file")


def size_of(file: FileIO) -> int:
    """The bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What numpy's .npy of an array of this type and shape, in C order, begins with."""
    import numpy as np  # of those who come here for other things not all need it

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


def flush(path: Path) -> None:
    """Have the system write a file to the disk now; or the list of a folder's files, where it can.

    Raises:
        OSError: the file cannot be written.
    """
    folder = path.is_dir()
    try:
        file = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError:
        if not folder:
            raise


def ensure_room(folder: Path, n_bytes: int) -> None:
    """Refuse before the first byte, and with the figures, what would end at a full disk.

    Raises:
        OSError: fewer than ``n_bytes`` are free.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OSError(errno.ENOSPC, f"needs {decimal(n_bytes)} in {folder}, {decimal(free)} are free")


def ensure_writable(folder: Path) -> None:
    """Write to ``folder``, or to what there is of its parents, so that training can refuse before it takes minutes.

    Nothing is left behind.

    Raises:
        UsageError: it cannot be written, or created.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        probe = _temporary(there / "probe")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _cannot_write(folder, error) from error


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all to temporary files, then rename them in order: what fails half way fails before the renames.

    Whoever reads meanwhile sees the old files or the new ones, never half of one. No temporary file is left.

    Raises:
        UsageError: one of them cannot be written.
    """
    temporaries = {path: _temporary(path) for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporaries[path].open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path.parent, error) from error
    finally:
        for temporary in temporaries.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block has ended, and is gone if it fails.

    Raises:
        UsageError: it cannot be written.
    """
    temporary = _temporary(path)
    try:
        if path.is_dir():  # found now, not by the renaming
            raise IsADirectoryError("it is a folder")
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}", "name another file") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_new(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file where there is none, whole or not at all; what ``parts`` raises ends it, and leaves nothing.

    Raises:
        FileExistsError: there is one; it stays as it is.
        UsageError: it cannot be written.
    """
    temporary = _temporary(path)
    try:
        with _told(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("xb")
        with file:
            for part in parts:
                with _told(path.parent):
                    file.write(part)
            with _told(path.parent):
                file.flush()
                os.fsync(file.fileno())
        with _told(path.parent):
            taken = not _named(temporary, path)
        if taken:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _named(temporary: Path, path: Path) -> bool:
    """Name a file, if nothing has the name: a link is refused where something has, and a renaming is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(path):
            return False
        temporary.rename(path)
    return True


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in ``folder``."""
    for left in folder.glob(".*.tmp"):
        with suppress(OSError, ValueError):
            where, process, _ = left.name.removeprefix(".").split("-", 2)
            dead = not is_alive(int(process)) if where == this_machine() else _age(left) > ABANDONED_SECONDS
            if dead:
                left.unlink()


def is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine, as far as can be known."""
    if os.name == "nt":  # where signal 0 is an interrupt
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@functools.cache
def this_machine() -> str:
    """What tells the processes of two machines, or containers, apart: their numbers mean nothing elsewhere."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def kernels_folder() -> Path:
    """Where compiled kernels are kept: a folder ``numba-…`` for each state of their sources."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return Path(chosen) if chosen else Path(__file__).parent / "engines" / "numba" / "__pycache__"


def refuges(folder: Path) -> Iterator[Path]:
    """Folders of the user's own that may take what this one does not."""
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12]
    yield platformdirs.user_cache_path("flowbench") / "rescued" / name
    user = os.getuid() if hasattr(os, "getuid") else 0
    own = Path(tempfile.gettempdir()) / f"flowbench-rescued-{user}"
    with suppress(OSError):
        own.mkdir(mode=0o700, exist_ok=True)
        if own.lstat().st_uid == user:  # anybody can make one of that name
            yield own / name


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _temporary(path: Path) -> Path:
    """A hidden name in the same folder (renaming is atomic within a file system only) that no other process has."""
    return path.with_name(f".{this_machine()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Writing to ``folder``, where what the system refuses is told.

    Raises:
        UsageError: it refused.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(
        f"results cannot be written to {folder}: {reason}", "name another folder with --out or FLOWBENCH_RESULTS_DIR"
    )
