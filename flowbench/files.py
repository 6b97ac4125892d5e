"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flowbench.errors import UsageError


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
            if temporary.exists():
                temporary.unlink()


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
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A hidden name in the same folder (renaming is atomic within a file system only) that no other process has."""
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


def _cannot_write(folder: Path, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(
        f"results cannot be written to {folder}: {reason}", "name another folder with --out or FLOWBENCH_RESULTS_DIR"
    )
