"""An exported table as CSV and as Parquet, and what its columns mean. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowbench.console import write_text
from flowbench.errors import UsageError
from flowbench.files import written_whole
from flowbench.report.export.columns import COLUMNS
from flowbench.report.export.table import Filled
from flowbench.report.outputs import Output, write

FORMS = ("csv", "parquet")

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")
"""What a cell begins with that a spreadsheet takes for a formula; and the mark that says it is text."""

_ROWS_AT_ONCE = 1000


def check(to: Sequence[Output]) -> None:
    """Refuse before any record is read what cannot be written.

    Raises:
        UsageError: Parquet has no file to go to.
    """
    if any(output.form == "parquet" and output.path is None for output in to):
        raise UsageError("Parquet goes to a file", "name it: --format parquet=runs.parquet")


def write_table(found: Sequence[Filled], to: Sequence[Output]) -> None:
    """Each form to stdout or, whole or not at all, to its file.

    Raises:
        UsageError: a file cannot be written.
    """

    def printed(_: str, console: Console) -> None:
        write_text(_csv(found), console)

    write([output for output in to if output.form == "csv"], printed)
    for output in to:
        if output.form == "parquet" and output.path is not None:
            _write_parquet(found, output)


def _csv(found: Sequence[Filled]) -> Iterator[str]:
    """A line of names, and one a run; some at a time."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([each.column.name for each in found])
    for row, values in enumerate(zip(*(each.values for each in found), strict=True), 1):
        writer.writerow(map(_cell, values))
        if row % _ROWS_AT_ONCE == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def _cell(value: Any) -> Any:
    """A value as CSV has it; a text that would be a formula has a ' before it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULAS) else value
    return value.isoformat() if isinstance(value, datetime) else value


def _write_parquet(found: Sequence[Filled], output: Output) -> None:
    """Typed columns, each with its unit and meaning in the metadata of its field."""
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "text": pa.string(),
        "json": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    fields = [
        pa.field(each.column.name, types[each.column.type], metadata=_documentation(each.column)) for each in found
    ]
    arrays = [pa.array(each.values, field.type) for each, field in zip(found, fields, strict=True)]
    assert output.path is not None
    with written_whole(output.path) as file:
        parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), file)


def _documentation(column: Any) -> dict[str, str]:
    return {"type": column.type, "unit": column.unit, "meaning": column.meaning}


def documentation() -> dict[str, Any]:
    """What each column is, as JSON has it."""
    return {"kind": "columns", "columns": [{"name": each.name, **_documentation(each)} for each in COLUMNS]}


def rendered() -> Table:
    """What each column is, to be read."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("name", "type", "unit", "meaning"):
        shown.add_column(name, no_wrap=name == "name")
    for each in COLUMNS:
        shown.add_row(*map(Text, (each.name, each.type, each.unit, each.meaning)))
    return shown
