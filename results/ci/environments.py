"""Copies of this checkout, each with an interpreter of its own: two flowbenches to be held against each other."""

from __future__ import annotations

import shutil
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CARRIED = ("flowbench", "configs", "datasets", "pyproject.toml")

Edits = Mapping[str, Mapping[str, str]]
"""By file: what stands there once, and what is to stand there instead."""


def environment(folder: Path, edits: Edits | None = None) -> Path:
    """The interpreter of a new environment in ``folder`` whose flowbench is a copy of this one, with ``edits``.

    The command ``flowbench`` lies beside it. Everything else is taken from the environment that this runs in. One that
    is there already is taken as it is.

    Raises:
        ValueError: an edit's text is not there, or not once.
    """
    copy, python = folder / "checkout", folder / "env" / "bin" / "python"
    if python.exists():
        return python
    for name in CARRIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    for name, changes in (edits or {}).items():
        path = copy / name
        text = path.read_text("utf-8")
        for before, after in changes.items():
            if text.count(before) != 1:
                raise ValueError(f"{name} has {before!r} {text.count(before)} times, expected once")
            text = text.replace(before, after)
        path.write_text(text, "utf-8")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    packages = next((folder / "env").glob("lib/python*/site-packages"))
    # in the order of their names: the copy comes before what the other environment has
    (packages / "0-flowbench.pth").write_text(f"{copy}\n")
    (packages / "1-rest.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = python.with_name("flowbench")
    command.write_text(f"#!{python}\nfrom flowbench.cli.app import main\n\nmain()\n")
    command.chmod(0o755)
    return python
