"""Rankings in the forms that are asked for. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from pydantic_core import to_json
from rich.console import Console

from flowbench.console import printable, write_text
from flowbench.report.outputs import Output, write
from flowbench.report.ranking.curves import curves, curves_document, curves_rows, curves_sheet
from flowbench.report.ranking.document import csv_text
from flowbench.report.ranking.pairs import MOST, MOST_SHOWN, matrices, matrix_sheet, pairs_document, pairs_rows
from flowbench.report.ranking.sheet import Sheet, show
from flowbench.report.ranking.tables import Table
from flowbench.report.ranking.text import latex, markdown

FORMS = ("table", "markdown", "csv", "json", "latex")


def write_report(
    to: Sequence[Output],
    as_document: Callable[[], dict[str, Any]],
    rows: Callable[[], str],
    sheets: Callable[[str], Sequence[Sheet]],
) -> None:
    """A report as JSON, as CSV, and as sheets for whatever else; each is made where it is asked for.

    Raises:
        UsageError: a file cannot be written.
    """

    def printed(form: str, console: Console) -> None:
        if form == "json":
            write_text(chain(strict(as_document()), ["\n"]), console)
        elif form == "csv":
            write_text([rows()], console)
        elif form == "table":
            show(sheets(form), console)
        else:
            text = printable((markdown if form == "markdown" else latex)(sheets(form)))
            write_text([text.removesuffix("\n"), "\n"], console)

    write(to, printed)


def write_pairs(tables: Sequence[Table], to: Sequence[Output]) -> None:
    """The matrix of each table's paired differences; raises as `write_report`.

    Raises:
        NothingToCompareError: there are none.
    """
    found = matrices(tables)

    def sheets(form: str) -> list[Sheet]:
        return [matrix_sheet(matrix, MOST_SHOWN if form == "table" else MOST) for matrix in found]

    write_report(to, lambda: pairs_document(found), lambda: csv_text(pairs_rows(found)), sheets)


def write_curves(tables: Sequence[Table], to: Sequence[Output]) -> None:
    """How soon each table's lines reached what; raises as `write_report`.

    Raises:
        NothingToCompareError: no record has the history of a training.
    """
    found = curves(tables)
    write_report(
        to,
        lambda: curves_document(found),
        lambda: csv_text(curves_rows(found)),
        lambda _: [curves_sheet(each) for each in found],
    )


def strict(found: Any, indent: str = "\n") -> Iterator[str]:
    """As JSON, of thousands of records sooner than by the standard library.

    What is an iterator is a list in JSON, of which one item at a time is in memory.
    """
    deeper = indent + "  "
    if isinstance(found, Iterator):
        items, ends = (("", item) for item in found), "[]"
    elif isinstance(found, dict) and any(isinstance(value, Iterator) for value in found.values()):
        items, ends = ((f"{_whole(key)}: ", value) for key, value in found.items()), "{}"
    else:
        yield _whole(found).replace("\n", indent)  # there is none within a string of JSON
        return
    yield ends[0]
    between = deeper
    for name, value in items:
        yield f"{between}{name}"
        yield from strict(value, deeper)
        between = f",{deeper}"
    yield ends[1] if between == deeper else indent + ends[1]


def _whole(found: Any) -> str:
    """What would steer a terminal is spelt as JSON spells it; it is a line break or is in a string."""
    text = to_json(found, indent=2, inf_nan_mode="null").decode()
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
