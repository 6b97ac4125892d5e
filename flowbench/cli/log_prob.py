"""``flowbench log-prob``: the log-density of each row of a table or a stream, and the least likely rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flowbench.cli.options import Device, Threads
from flowbench.cli.use import OutFile, Run, Space, load, out_file, write
from flowbench.console import note, printable
from flowbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

    from flowbench.data.tables.writing import Batch, Column
    from flowbench.flows.core.density import Density
    from flowbench.use.densities import BadRows, Scored
    from flowbench.use.odd import Oddness


CSV_INSTEAD = "write a .csv or .parquet"

SHOWN = 3
"""The oddest columns of a row that a terminal shows."""

MEANING = {
    "log_prob": "log_prob_COLUMN is log p(the column | the columns before it); they add up to log_prob. odd_column is "
    "the one that is furthest below what is usual of it.",
    "gain": "gain_COLUMN is what log_prob gains on average over usual values in that column's place. odd_column is the "
    "one where that is most.",
}


def log_prob(
    run: Run,
    data: Annotated[
        str,
        typer.Option(
            help="A table with the columns that the run was trained on, in any order; -: standard input, as CSV or an "
            "Arrow IPC stream, each row answered as it comes."
        ),
    ],
    out: OutFile = None,
    device: Device = "auto",
    threads: Threads = None,
    space: Space = "raw",
    id_column: Annotated[
        str | None,
        typer.Option("--id", help="A column of names of rows, which is written first as it is.", show_default=False),
    ] = None,
    lowest: Annotated[
        int | None,
        typer.Option(
            min=1, help="Write this number of the least likely rows only, with what is odd of each.", show_default=False
        ),
    ] = None,
    on_bad_row: Annotated[
        Literal["stop", "skip", "nan"],
        typer.Option(help="What becomes of a row without a density: a value is missing, infinite or no number, say."),
    ] = "stop",
) -> None:
    """Write the log-density of each row of a table, in nats and in the table's own units, in the order of its rows.

    Of a known dataset, these are the units of its raw files: kilowatts and volts of power, pixel values of images (and
    their patches' mean does not count). A whole number that was learnt with noise is taken in the middle of its step.
    """
    from flowbench.data.tables.inputs import is_stream, open_source

    out = out_file(out)
    _check(data, out, id_column)
    if out is not None and out.suffix.lower() == ".npy" and (id_column is not None or lowest is not None):
        raise UsageError(f"a .npy holds numbers, and {'--id' if id_column else '--lowest'} writes text", CSV_INSTEAD)
    # a stream's first line may be long in coming
    source = None if is_stream(data) else open_source(data)
    trained = load(run, device, threads, space, "a value's log-density is taken in the middle of its step")
    source = source or open_source(data)
    if id_column is not None and id_column not in source.columns:
        raise UsageError(f"{source.name} has no column {id_column!r}", did_you_mean(id_column, source.columns))
    from flowbench.use.densities import BadRows, scored

    bad = BadRows(on_bad_row)
    batches = scored(trained, source, bad, id_column)
    if lowest is None:
        _write_all(out, batches, bad, id_column)
    else:
        # a run's columns without names are called as the table calls them
        there = [name for name in source.columns if name != id_column]
        names = trained.columns or there[len(trained.given) :]
        _write_lowest(out, trained.density, names, batches, lowest, id_column)
    if bad.counts:
        note(str(bad))


def _check(data: str, out: Path | None, id_column: str | None) -> None:
    from flowbench.data.tables.inputs import is_stream
    from flowbench.data.tables.loading import is_path
    from flowbench.files import expanded

    if not is_path(data) and not is_stream(data):
        raise UsageError(
            f"--data takes a table in a file, or - for standard input, not {data!r}",
            "the log-densities of a known dataset's test rows lie in the .npy beside its run's row",
        )
    path = expanded(data)
    if out is not None and out.exists() and path.exists() and out.samefile(path):
        raise UsageError(f"--out is the table itself, {path}", "name another file")
    if id_column in ("log_prob", "odd_column"):
        raise UsageError(f"--id {id_column}: a column of the output has that name", "rename it in the table")


def _write_all(out: Path | None, batches: Iterator[Scored], bad: BadRows, id_column: str | None) -> None:
    from flowbench.data.tables.writing import Column

    named = id_column is not None or bad.rule == "skip"

    def found() -> Iterator[Batch]:
        for some in batches:
            yield (_names(some), some.lls) if named else some.lls

    columns = [_name(id_column), Column("log_prob")] if named else [Column("log_prob")]
    write(out, columns, found(), "log-densities")


def _write_lowest(
    out: Path | None,
    density: Density,
    columns: Sequence[str],
    batches: Iterator[Scored],
    count: int,
    id_column: str | None,
) -> None:
    import numpy as np

    from flowbench.console import print_result, stdout
    from flowbench.data.tables.writing import Column
    from flowbench.progress import Working
    from flowbench.use.lowest import lowest
    from flowbench.use.odd import kind_of, oddness

    kind = kind_of(density)
    terms = [Column(f"{kind}_{name}") for name in columns]
    written = [_name(id_column), Column("log_prob"), Column("odd_column", "text"), *terms]
    with Working() as working:
        working.on("reading")
        found = lowest(batches, count)
        working.on("looking for what is odd")
        odd = None if found is None else oddness(density, found.rows, found.lls)
    if found is None or odd is None:
        write(out, written, [], "rows")
        return
    note(MEANING[kind])
    if out is None and stdout().is_terminal:
        print_result(_table(found, odd, columns, id_column))
        return
    names = np.array(columns, object)[odd.oddness.argmax(axis=1)]
    write(out, written, [(_names(found), found.lls, names, *odd.terms.T)], "rows")


def _table(found: Scored, odd: Oddness, names: Sequence[str], id_column: str | None) -> Table:
    """For a terminal: the columns that are oddest, not all of them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head, side in ((_name(id_column).name, "right"), ("log_prob", "right"), ("odd columns", "left")):
        table.add_column(Text(printable(head)), justify=side)  # type: ignore[arg-type]
    for name, ll, terms, oddness in zip(_names(found), found.lls, odd.terms, odd.oddness, strict=True):
        oddest = (-oddness).argsort(kind="stable")[:SHOWN]
        cells = ["" if name is None else str(name), f"{ll:,.2f}"]
        cells.append(", ".join(f"{names[i]} ({terms[i]:,.2f})" for i in oddest))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _name(id_column: str | None) -> Column:
    from flowbench.data.tables.writing import Column

    return Column("row", "whole") if id_column is None else Column(id_column, "text")


def _names(some: Scored) -> NDArray[Any]:
    return some.numbers if some.ids is None else some.ids
