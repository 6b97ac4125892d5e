"""What ``--format`` asks for: forms of a report, each to stdout or to a file. No torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flowbench.console import into, stdout
from flowbench.errors import UsageError, did_you_mean
from flowbench.files import expanded, written_whole


@dataclass(frozen=True)
class Output:
    """A form, and the file that it goes to; None is stdout."""

    form: str
    path: Path | None = None


def outputs(given: Sequence[str], forms: Sequence[str]) -> list[Output]:
    """Those given, of ``forms``, each with ``=FILE`` after it or not; a table where none is.

    Raises:
        UsageError: an unknown form, or two for stdout.
    """
    found = []
    for text in given or ["table"]:
        form, named, file = text.partition("=")
        if named and not file:
            raise UsageError(f"--format {text} names no file", "leave the = out for stdout")
        if form not in forms:
            raise UsageError(f"unknown format {form!r}", did_you_mean(form, forms))
        found.append(Output(form, expanded(file) if file else None))
    if sum(output.path is None for output in found) > 1:
        raise UsageError("two formats for stdout", "send one to a file: --format markdown=results.md")
    return found


def write(to: Sequence[Output], printed: Callable[[str, Console], None]) -> None:
    """Print each form to stdout or, whole or not at all, to its file; ``printed`` prints one to a console.

    Raises:
        UsageError: a file cannot be written.
    """
    for output in to:
        if output.path is None:
            printed(output.form, stdout())
            continue
        with written_whole(output.path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
            printed(output.form, into(text))
            text.detach()  # it would close the file
