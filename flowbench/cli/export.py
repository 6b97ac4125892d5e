"""``flowbench export``."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from flowbench.cli.options import FolderOrOut, OnlyData, OnlyFlow, Out
from flowbench.console import print_json, print_result
from flowbench.errors import UsageError


def export(
    folder: FolderOrOut = None,
    data: OnlyData = None,
    flow: OnlyFlow = None,
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="csv to stdout, or csv=FILE, or parquet=FILE. May be repeated.",
            show_default="csv",
        ),
    ] = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="Print what each column is: its type, its unit, its meaning.")
    ] = False,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --columns: print one JSON document.")] = False,
) -> None:
    """Write all runs as one flat table, a row for each, with every figure and setting in a column of its own.

    Runs are not grouped, and those that did not end well are there, too: column status tells them.
    """
    from flowbench.report.export import write
    from flowbench.report.export.table import table
    from flowbench.report.outputs import outputs
    from flowbench.report.runs import is_of
    from flowbench.results.store import read_all, results_dir

    if columns:
        return print_json(write.documentation()) if as_json else print_result(write.rendered())
    if as_json:
        raise UsageError("--json goes with --columns", "runs as JSON: flowbench compare --json")
    if folder is not None and out is not None:
        raise UsageError("the folder is given twice", hint="leave --out away")
    to = outputs(forms or ["csv"], write.FORMS)
    write.check(to)
    folder = results_dir(folder or out)
    gc.disable()  # as `compare` does: all that is made here lives till the end
    runs = {path: record for path, record in read_all(folder).items() if is_of(record, data, flow)}
    write.write_table(table(runs, folder), to)
