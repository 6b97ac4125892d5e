"""``flowbench fetch``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from flowbench.cli import complete
from flowbench.cli.options import Json
from flowbench.console import print_json, print_result, show_error


def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of datasets (see `flowbench list`).", metavar="NAME", autocompletion=complete.datasets
        ),
    ],
    source: Annotated[
        Literal["raw", "ready-made"] | None,
        typer.Option(
            "--from",
            help="raw: the publisher's files; ready-made: the archive with the data of the MAF paper.",
            show_default="raw, and ready-made where that fails",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download the raw files of datasets into $FLOWBENCH_DATA_DIR. Files that are already there are left alone."""
    from rich.text import Text

    from flowbench.data.sources.fetch import document, fetch_all

    reports = fetch_all(names, source)
    if as_json:
        print_json(document(reports))
    else:
        for report in reports:
            if not report.error:
                print_result(Text(report.summary))
    errors = [report.error for report in reports if report.error]
    for error in errors[:-1]:
        show_error(error)
    if errors:
        raise errors[-1]
