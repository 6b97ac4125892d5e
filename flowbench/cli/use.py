"""``flowbench log-prob`` and ``flowbench sample``: what was trained, used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowbench.cli.options import Device, Threads
from flowbench.console import note
from flowbench.errors import UsageError

if TYPE_CHECKING:
    from flowbench.use.trained import Float64, Trained

Run = Annotated[
    str, typer.Argument(help="A run's name in $FLOWBENCH_RESULTS_DIR or ./results, or a path to its .safetensors.")
]
OutFile = Annotated[
    Path | None,
    typer.Option("--out", help="A .csv, .tsv, .parquet or .npy file.", show_default="CSV to stdout"),
]


def log_prob(
    run: Run,
    data: Annotated[str, typer.Option(help="A table with the columns that the run was trained on, in any order.")],
    out: OutFile = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Write the log-density of each row of a table, in nats and the table's own units, row by row in its order."""
    from flowbench.data.tables.files import open_table
    from flowbench.data.tables.loading import is_path

    out = _out_file(out)
    path = Path(data).expanduser()
    if not is_path(data):
        raise UsageError(
            f"--data takes a table in a file, not {data!r}",
            "the log-densities of a known dataset's test rows lie in the .npy beside its run's row",
        )
    if out is not None and out.exists() and path.exists() and out.samefile(path):
        raise UsageError(f"--out is the table itself, {path}", "name another file")
    table = open_table(path)
    trained = _load(run, device, threads)
    from flowbench.use.densities import log_probs

    _write(out, ["log_prob"], log_probs(trained, table), "log-densities")


def sample(
    run: Run,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the noise.")] = 0,
    out: OutFile = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Draw rows from a trained flow, in the units and with the column names of the table that it was trained on."""
    out = _out_file(out)
    trained = _load(run, device, threads)
    import torch

    generator = torch.Generator(trained.flow.base.origin.device).manual_seed(seed)
    columns = trained.columns or [str(i) for i in range(trained.flow.dim)]
    _write(out, columns, trained.samples(rows, generator), "samples")


def _out_file(out: Path | None) -> Path | None:
    """The file to write; refused here, before anything takes time, if it is of no kind that can be."""
    from flowbench.data.tables.writing import writer_of

    out = out.expanduser() if out else None
    writer_of(out)
    return out


def _load(run: str, device: str, threads: int | None) -> Trained:
    import numpy as np
    import torch

    from flowbench.results import store as results
    from flowbench.training.environment import resolve_device
    from flowbench.use import trained

    if threads is not None:
        torch.set_num_threads(threads)
    density = trained.load(trained.find(run, results.results_dir()), resolve_device(device))
    if not density.own_units:
        note(f"rows and log-densities are in {density.space} space, as the rows were that the flow was trained on")
    if density.columns and np.any(density.steps):
        noisy = [name for name, step in zip(density.columns, np.ravel(density.steps), strict=True) if step]
        names = ", ".join(map(repr, noisy))
        note(f"learnt with noise on {names}: log-densities are taken in the middle of a step, samples are not rounded")
    return density


def _write(out: Path | None, columns: Iterable[str], batches: Iterable[Float64], what: str) -> None:
    from flowbench.console import Working
    from flowbench.data.tables.writing import write_table

    done = 0

    def counted(working: Working) -> Iterator[Float64]:
        nonlocal done
        for rows in batches:
            yield rows
            done += len(rows)
            working.on(f"{done:,} {what}")

    with Working() as working:
        write_table(out, list(columns), counted(working))
    if out:
        note(f"{done:,} {what} written to {out}")
