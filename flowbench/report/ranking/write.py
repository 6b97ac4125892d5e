"""Rankings in the forms that are asked for. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from rich.console import Console

from flowbench.report.outputs import Output, write
from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.document import as_csv, csv_text, document
from flowbench.report.ranking.pairs import MOST_SHOWN, Matrix, matrices, matrix_sheet, pairs_document, pairs_rows
from flowbench.report.ranking.sheet import Sheet, show
from flowbench.report.ranking.tables import Table
from flowbench.report.ranking.text import latex, markdown

FORMS = ("table", "markdown", "csv", "json", "latex")


def write_ranking(tables: Sequence[Table], to: Sequence[Output]) -> None:
    """The tables.

    Raises:
        UsageError: a file cannot be written.
    """
    write(to, lambda form, console: _ranking(tables, form, console))


def write_pairs(tables: Sequence[Table], to: Sequence[Output]) -> None:
    """The matrix of each table's paired differences.

    Raises:
        NothingToCompareError: there are none.
        UsageError: a file cannot be written.
    """
    found = matrices(tables)
    write(to, lambda form, console: _pairs(found, form, console))


def _ranking(tables: Sequence[Table], form: str, console: Console) -> None:
    if form == "json":
        _print(_strict(document(tables)), console)
    elif form == "csv":
        _print(as_csv(tables), console)
    else:
        _sheets([ranking(table) for table in tables], form, console)


def _pairs(found: Sequence[Matrix], form: str, console: Console) -> None:
    if form == "json":
        _print(_strict(pairs_document(found)), console)
    elif form == "csv":
        _print(csv_text(pairs_rows(found)), console)
    elif form == "table":
        _sheets([matrix_sheet(matrix, MOST_SHOWN) for matrix in found], form, console)
    else:
        _sheets([matrix_sheet(matrix) for matrix in found], form, console)


def _sheets(sheets: Sequence[Sheet], form: str, console: Console) -> None:
    if form == "table":
        show(sheets, console)
    else:
        _print(markdown(sheets) if form == "markdown" else latex(sheets), console)


def _strict(found: dict[str, Any]) -> str:
    """As JSON; of thousands of records sooner than by the standard library."""
    return to_json(found, indent=2, inf_nan_mode="null").decode()


def _print(text: str, console: Console) -> None:
    """As it is: rich would take twenty seconds to look through the records of ten thousand runs."""
    try:
        console.file.write(text.removesuffix("\n") + "\n")
        console.file.flush()
    except BrokenPipeError:
        console.on_broken_pipe()
