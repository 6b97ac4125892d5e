"""``flowbench merge``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbench.cli.options import Json
from flowbench.console import note, plural, print_json, print_result

if TYPE_CHECKING:
    from flowbench.results.merging import Merged


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results, subfolders included.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="The folder that all go to. What is there stays as it is, and takes part.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Join folders of results: runs with their files, times and sweeps. Nothing is overwritten.

    The same run found twice is kept once. A different one of the same name is kept, too, under a name of its own.
    """
    from flowbench.files import expanded
    from flowbench.progress import Working
    from flowbench.results.merging import merge as merged_into

    out = expanded(out)
    with Working() as working:
        merged = merged_into([expanded(folder) for folder in folders], out, working.on)
    for path, copy in merged.renamed.items():
        note(f"{path} differs from the one that has its name in {out}, and is {copy.stem} there")
    if merged.unfinished:
        runs = plural(len(merged.unfinished), "unfinished run")
        note(f"checkpoints are not merged: {runs} can be gone on with in {merged.unfinished[0].parent}")
    if merged.missing:
        note(f"{plural(len(merged.missing), 'file')} that records name are not beside them, and stay missing")
    if as_json:
        print_json(_document(out, merged))
    else:
        print_result(_summary(out, merged))


def _summary(out: Path, merged: Merged) -> str:
    """In a line: how many records came, and what became of the others."""
    what = [
        f"{plural(len(merged.copied), 'record')} copied to {out}",
        f"{len(merged.renamed):,} of them under a name of its own" if merged.renamed else "",
        f"{len(merged.same):,} found again and kept once" if merged.same else "",
        f"{len(merged.there):,} were there" if merged.there else "",
        f"{plural(len(merged.passed_over), 'file')} passed over" if merged.passed_over else "",
    ]
    return ", ".join(filter(None, what))


def _document(out: Path, merged: Merged) -> dict[str, Any]:
    from flowbench.files import utf8

    return {
        "kind": "merge",
        "schema_version": 1,
        "out": utf8(out),
        "there": [utf8(path) for path in merged.there],
        "copied": [utf8(path) for path in merged.copied],
        "same": [utf8(path) for path in merged.same],
        "renamed": {utf8(path): utf8(copy) for path, copy in merged.renamed.items()},
        "passed_over": {utf8(path): why for path, why in merged.passed_over.items()},
        "missing": [utf8(path) for path in merged.missing],
        "unfinished": [utf8(path) for path in merged.unfinished],
    }
