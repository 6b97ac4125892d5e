"""``flowbench train``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from flowbench.cli.options import Device, Json, Out, Threads
from flowbench.console import note, print_json, print_result, warn
from flowbench.errors import FlowbenchError

_TABLES = "Tables of your own"


def train(
    flow: Annotated[str, typer.Argument(help="A flow: maf, iaf, realnvp, gaussian (`flowbench list` has all).")],
    data: Annotated[
        str, typer.Option(help="A dataset's name, or a .csv, .tsv, .parquet, .npy or .npz file, or a folder of such.")
    ] = "patches",
    recipe: Annotated[str, typer.Option(help="fast, or paper: the protocol of 2017.")] = "fast",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, batches and an own table's split.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. hidden=512,512.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.", show_default=False)] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs at the most.", show_default="the recipe's")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Training time at the most.", show_default=False)] = None,
    allow_partial: Annotated[bool, typer.Option(help="Take raw files with fewer rows than published.")] = False,
    columns: Annotated[
        str | None, typer.Option(rich_help_panel=_TABLES, help="The columns to model: a,b,c.", show_default="all")
    ] = None,
    drop_columns: Annotated[
        str | None, typer.Option(rich_help_panel=_TABLES, help="Columns to leave out.", show_default=False)
    ] = None,
    dropna: Annotated[
        bool, typer.Option("--dropna", rich_help_panel=_TABLES, help="Leave out rows with missing values.")
    ] = False,
    split: Annotated[
        str,
        typer.Option(
            rich_help_panel=_TABLES,
            help="random; time: the last rows are validation and test; or a column: all rows with one value of it "
            "go to one split, and it is not modelled.",
        ),
    ] = "random",
    test_fraction: Annotated[
        float, typer.Option(rich_help_panel=_TABLES, help="Share of rows for test, and again for validation.")
    ] = 0.1,
    dequantise: Annotated[
        bool,
        typer.Option(
            "--dequantise", rich_help_panel=_TABLES, help="Add uniform noise to whole numbers and to heavy ties."
        ),
    ] = False,
    force: Annotated[bool, typer.Option(help="Train again what is already finished.")] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Train a flow by maximum likelihood; print its test log-likelihood and what a density and a sample cost."""
    import torch

    from flowbench import flows
    from flowbench.config import packaged_layers, resolve, user_layers
    from flowbench.console import Progress
    from flowbench.data import TableOptions, load
    from flowbench.data.tables.loading import is_path
    from flowbench.files import ensure_writable
    from flowbench.report.summary import summary
    from flowbench.results import store as results
    from flowbench.training.environment import resolve_device
    from flowbench.training.memory import keep_freed_memory
    from flowbench.training.run import run, run_name

    if threads is not None:
        torch.set_num_threads(threads)
    given = {"max_epochs": max_epochs, "max_seconds": max_seconds}
    user = user_layers(config, settings or []) | {key: value for key, value in given.items() if value is not None}
    where = {"device": resolve_device(device), "threads": torch.get_num_threads()}
    layers = packaged_layers(flow, "" if is_path(data) else data, recipe)
    chosen = resolve(flows.load(flow).Options, layers, user, flow=flow, data=data, recipe=recipe, seed=seed, **where)
    folder = results.results_dir(out)
    ensure_writable(folder)  # before anything takes time
    table_options = TableOptions(_names(columns), _names(drop_columns), dropna, split, test_fraction, dequantise)
    dataset = load(data, seed=seed, allow_partial=allow_partial, table_options=table_options)
    keep_freed_memory()  # of training: what a large table needed while it was converted is given back
    chosen = chosen.model_copy(update={"data": dataset.card.name})  # a table is what it holds, wherever it lies
    if dataset.dim == 1:
        warn("with one column there is nothing to condition on: every affine flow is a Gaussian")
    row = None if force else results.finished(folder, run_name(chosen, dataset))
    if row is not None:
        note(f"{row.run} is already finished ({folder / row.run}.json); --force trains it again")
    else:
        with Progress(chosen.training.max_seconds) as progress:
            row = run(chosen, dataset, folder, progress)
    if as_json:
        print_json(row.model_dump(mode="json"))
    else:
        if row.status != "diverged":
            print_result(summary(row))
        note(f"written to {folder / row.run}.json")
    if row.status != "ok":
        hint = "a lower learning_rate, a log_scale_bound, or a clip_norm keeps it finite"
        diverged = row.status == "diverged"
        raise FlowbenchError(f"the run {row.status}: {row.error}", hint=hint if diverged else None)


def _names(text: str | None) -> tuple[str, ...]:
    """Names as a line of CSV has them: with commas between, and in quotation marks where they have commas."""
    return tuple(next(csv.reader([text]), [])) if text else ()
