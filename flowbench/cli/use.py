"""``flowbench sample``, and what it shares with ``flowbench log-prob``: using what was trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowbench.cli import complete
from flowbench.cli.options import Device, Threads, use_threads
from flowbench.console import note
from flowbench.errors import UsageError

if TYPE_CHECKING:
    from flowbench.data.tables.writing import Batch, Column
    from flowbench.flows.core.density import Float64
    from flowbench.use.trained import Trained

Run = Annotated[
    str,
    typer.Argument(
        help="The name of a run in $FLOWBENCH_RESULTS_DIR or ./results, or a path to its .safetensors file.",
        autocompletion=complete.runs,
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option("--out", help="The .csv, .tsv, .parquet or .npy file to write.", show_default="CSV to stdout"),
]
Space = Annotated[
    Literal["raw", "flow"],
    typer.Option(help="raw: the units of the table or dataset trained on; flow: the space the flow learnt it in."),
]


def sample(
    run: Run,
    rows: Annotated[
        int | None, typer.Option("--rows", "-n", min=1, help="The number of rows.", show_default="1000")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds the noise.")] = 0,
    out: OutFile = None,
    device: Device = "auto",
    threads: Threads = None,
    space: Space = "raw",
    given: Annotated[
        str | None,
        typer.Option(
            help="A table of what a conditional density is given: a row is drawn for each of its rows.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw rows from a trained flow, in the units and with the column names of the table that it was trained on.

    Of a known dataset, these are the units of its raw files; patches have a mean of 0. What was learnt with noise is
    rounded down to its steps, as it was in the table. Of a conditional density, the columns that it is given come
    first.
    """
    out = out_file(out)
    trained = load(run, device, threads, space, "draws are rounded down to the steps")
    import torch

    from flowbench.data.tables.writing import Column

    density = trained.density
    values = _given(trained, given, rows)
    generator = torch.Generator(density.flow.origin.device).manual_seed(seed)
    names = [*trained.given, *trained.names]
    labels = {column.name: column.labels for column in density.classed}
    draws = density.samples(rows or 1000 if values is None else len(values), generator, values)
    gaps = density.may_lack
    columns = [Column(n, labels=labels.get(n, ()), gaps=bool(lacks)) for n, lacks in zip(names, gaps, strict=True)]
    write(out, columns, draws, "samples")


def _given(trained: Trained, table: str | None, rows: int | None) -> Float64 | None:
    """What is given to each draw, (N, G); None where the density is not conditional.

    Raises:
        UsageError: it is conditional and no table says on what, or the other way round, or there is a number of rows.
    """
    names = ", ".join(map(repr, trained.given))
    if table is None and names:
        raise UsageError(
            f"the run's density is conditional on {names}: it draws rows for what it is given",
            "--given takes a table with such columns, and a row is drawn for each of its rows",
        )
    if table is None:
        return None
    if not names:
        raise UsageError("the run's density is not conditional: there is nothing to give it", "leave --given out")
    if rows is not None:
        raise UsageError("--rows does not go with --given, whose table has a row for each draw", "leave --rows out")
    from flowbench.data.tables.inputs import open_source
    from flowbench.use.densities import given_values

    return given_values(trained, open_source(table))


def out_file(out: Path | None) -> Path | None:
    """The file to write; refused here, before anything takes time, if it is of no kind that can be."""
    from flowbench.data.tables.writing import writer_of
    from flowbench.files import expanded

    out = expanded(out) if out else None
    writer_of(out)
    return out


def load(run: str, device: str, threads: int | None, space: str, noise: str) -> Trained:
    """What the run left, with notes on its units, and on what becomes of ``noise``."""
    from flowbench.results import store as results
    from flowbench.training.environment import resolve_device
    from flowbench.use import trained

    use_threads(threads)
    found = trained.load(trained.find(run, results.results_dir()), resolve_device(device))
    if space == "flow":
        found = found.in_flow_space()
    if not found.raw:
        note(f"rows and log-densities are in {found.space} space, as the rows were that the flow was trained on")
    if found.noisy:
        note(f"learnt with noise on {', '.join(map(repr, found.noisy))}: {noise}")
    return found


def write(out: Path | None, columns: Sequence[Column], batches: Iterable[Batch], what: str) -> None:
    """Write batches of rows to ``out`` or to stdout; a note says how many of ``what`` went to the file."""
    from flowbench.data.tables.writing import write_table
    from flowbench.progress import Working

    done = 0

    def counted(working: Working) -> Iterator[Batch]:
        nonlocal done
        for rows in batches:
            yield rows
            done += len(rows) if hasattr(rows, "ndim") else len(rows[0])
            working.on(f"{done:,} {what}")

    with Working() as working:
        write_table(out, columns, counted(working))
    if out:
        note(f"{done:,} {what} written to {out}")
