"""Which code this is: a digest of flowbench's sources, and the revision of its checkout. No torch."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path

from flowbench.config import PACKAGE, shipped


@functools.cache
def code_digest() -> str:
    """The sha256 (hex) of all of flowbench's sources: equal digests, equal code, in a checkout as in a wheel.

    Git's revision tells less: a checkout with changes has none, and a wheel knows none.
    """
    return _digest(PACKAGE)


@functools.cache
def data_code_digest() -> str:
    """The sha256 (hex) of the sources that make arrays of raw files."""
    return _digest(PACKAGE / "data")


@functools.cache
def git_revision() -> str | None:
    """The revision of flowbench's own checkout, with + where it has changes; None in an installed wheel."""
    checkout = PACKAGE.parent
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _digest(folder: Path) -> str:
    """Of the folder's sources and of the datasets', by their names and contents."""
    found = hashlib.sha256()
    for root in (folder, shipped("datasets")):
        sources = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
        for name in sorted(sources):
            if name.startswith("_datasets/"):  # as a wheel carries them inside the package
                continue
            for part in (name.encode(), sources[name].read_bytes()):
                found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()
