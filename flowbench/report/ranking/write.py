"""Rankings to stdout, in the form asked for. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic_core import to_json

from flowbench.console import stdout
from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.document import as_csv, csv_text, document
from flowbench.report.ranking.pairs import MOST_SHOWN, matrices, matrix_sheet, pairs_document, pairs_rows
from flowbench.report.ranking.sheet import Sheet, show
from flowbench.report.ranking.tables import Table
from flowbench.report.ranking.text import latex, markdown

Form = Literal["table", "markdown", "csv", "json", "latex"]


def write_ranking(tables: Sequence[Table], form: Form) -> None:
    """Print the tables."""
    if form == "json":
        _print(_strict(document(tables)))
    elif form == "csv":
        _print(as_csv(tables))
    else:
        _write([ranking(table) for table in tables], form)


def write_pairs(tables: Sequence[Table], form: Form) -> None:
    """Print the matrix of each table's paired differences.

    Raises:
        NothingToCompareError: there are none.
    """
    found = matrices(tables)
    if form == "json":
        _print(_strict(pairs_document(found)))
    elif form == "csv":
        _print(csv_text(pairs_rows(found)))
    elif form == "table":
        _write([matrix_sheet(matrix, MOST_SHOWN) for matrix in found], form)
    else:
        _write([matrix_sheet(matrix) for matrix in found], form)


def _write(sheets: Sequence[Sheet], form: Form) -> None:
    if form == "table":
        show(sheets, stdout())
    else:
        _print(markdown(sheets) if form == "markdown" else latex(sheets))


def _strict(found: dict[str, Any]) -> str:
    """As JSON; thousands of records faster than by the standard library."""
    return to_json(found, indent=2, inf_nan_mode="null").decode()


def _print(text: str) -> None:
    stdout().out(text.removesuffix("\n"), highlight=False)
