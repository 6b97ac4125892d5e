"""``flowbench train``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowbench.cli import complete
from flowbench.cli.options import SET_HELP, Device, Json, Out, Threads, use_threads
from flowbench.console import note, print_json, print_result, warn
from flowbench.errors import FlowbenchError, UsageError

if TYPE_CHECKING:
    from flowbench.config import RunConfig
    from flowbench.data import Dataset
    from flowbench.results.record import RunRecord

_TABLES = "Tables of your own"
_SETTINGS = "Settings"


def train(
    flow: Annotated[
        str | None,
        typer.Argument(
            help="A flow: maf, iaf, realnvp or gaussian (`flowbench list` describes them), or a .py file of your own.",
            show_default=False,
            autocompletion=complete.flows,
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help="The name of a dataset (see `flowbench list`), or a path to a table of your own: a .csv, .tsv, "
            ".parquet, .npy or .npz file, or a folder of them; or a .py file that is a dataset.",
            autocompletion=complete.datasets,
        ),
    ] = "patches",
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Seeds the weights, the batches and the split of a table of your own."),
    ] = 0,
    device: Device = "auto",
    threads: Threads = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Accept raw files with fewer rows than the published data.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Train again even if the run is already finished.")] = False,
    out: Out = None,
    as_json: Json = False,
    recipe: Annotated[
        str,
        typer.Option(
            rich_help_panel=_SETTINGS,
            help="How to train: fast, or paper for the protocol of the MAF paper (2017).",
            autocompletion=complete.recipes,
        ),
    ] = "fast",
    max_epochs: Annotated[
        int | None,
        typer.Option(
            min=0, rich_help_panel=_SETTINGS, help="The largest number of epochs.", show_default="the recipe's"
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_SETTINGS,
            help="Take no more steps after this many seconds of training. What the last epoch still needs for "
            "calibration and validation comes on top.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", rich_help_panel=_SETTINGS, metavar="KEY=VALUE", help=SET_HELP),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(rich_help_panel=_SETTINGS, help="A TOML file of settings.", show_default=False)
    ] = None,
    list_settings: Annotated[
        bool,
        typer.Option(
            "--settings",
            rich_help_panel=_SETTINGS,
            help="List all settings with their defaults for the flow, data and recipe, and exit.",
        ),
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(rich_help_panel=_TABLES, help="The columns to model, e.g. a,b,c.", show_default="all"),
    ] = None,
    drop_columns: Annotated[
        str | None, typer.Option(rich_help_panel=_TABLES, help="The columns to leave out.", show_default=False)
    ] = None,
    dropna: Annotated[
        bool, typer.Option("--dropna", rich_help_panel=_TABLES, help="Leave out rows with missing values.")
    ] = False,
    split: Annotated[
        str,
        typer.Option(
            rich_help_panel=_TABLES,
            help="random; time: the last rows are the test split, and those before them the validation split; or a "
            "column's name: all rows with one value of it go to the same split, and it is not modelled.",
        ),
    ] = "random",
    test_fraction: Annotated[
        float,
        typer.Option(
            rich_help_panel=_TABLES, help="The share of the rows in the test split, and in the validation split too."
        ),
    ] = 0.1,
    dequantise: Annotated[
        bool,
        typer.Option(
            "--dequantise",
            rich_help_panel=_TABLES,
            help="Add uniform noise to columns of whole numbers and to columns with heavy ties.",
        ),
    ] = False,
) -> None:
    """Train a flow by maximum likelihood; show its test log-likelihood and what a density and a sample cost.

    Progress goes to stderr: on a terminal as one live line, elsewhere as a
    line for the first and the last epoch and, between them, one every five
    seconds at most.
    """
    if list_settings:
        from flowbench.cli.settings import show_settings

        return show_settings(flow, data, recipe, as_json)
    if flow is None:
        raise UsageError("name a flow to train", hint=f"there are: {', '.join(complete.flows(''))}")

    from flowbench import plugins
    from flowbench.config import user_layers
    from flowbench.data import TableOptions, load
    from flowbench.files import ensure_writable
    from flowbench.results.store import results_dir

    use_threads(threads)
    flow, data = plugins.name_of("flows", flow), plugins.name_of("datasets", data)
    given = {"max_epochs": max_epochs, "max_seconds": max_seconds}
    user = user_layers(config, settings or []) | {key: value for key, value in given.items() if value is not None}
    chosen = _configuration(flow, data, recipe, seed, device, user)
    folder = results_dir(out)
    ensure_writable(folder)  # before anything takes time
    table_options = TableOptions(_names(columns), _names(drop_columns), dropna, split, test_fraction, dequantise)
    dataset = load(data, seed=seed, allow_partial=allow_partial, table_options=table_options)
    record = _finished_or_trained(chosen, dataset, folder, force)
    _show(record, as_json)


def _configuration(flow: str, data: str, recipe: str, seed: int, device: str, user: dict[str, object]) -> RunConfig:
    """All that decides the run's numbers, checked before anything is loaded."""
    import torch

    from flowbench import flows
    from flowbench.config import packaged_layers, resolve
    from flowbench.data.tables.loading import is_path
    from flowbench.training.environment import resolve_device

    where = {"device": resolve_device(device), "threads": torch.get_num_threads()}
    packaged = packaged_layers(flow, "" if is_path(data) else data, recipe)
    known = {"flow": flow, "data": data, "recipe": recipe, "seed": seed, "code": flows.code(flow)}
    return resolve(flows.load(flow).Options, packaged, user, **known, **where)


def _finished_or_trained(chosen: RunConfig, dataset: Dataset, folder: Path, force: bool) -> RunRecord:
    """The record of the run: of an earlier one that finished, unless it is to be trained again."""
    from flowbench.console import Progress
    from flowbench.results.store import finished
    from flowbench.training.memory import keep_freed_memory
    from flowbench.training.run import run, run_name

    keep_freed_memory()  # of training: what a large table needed while it was converted is given back
    # a table is what it holds, wherever it lies
    chosen = chosen.model_copy(update={"data": dataset.card.name if dataset.card else dataset.name})
    if dataset.dim == 1:
        warn("with one column there is nothing to condition on: every affine flow is a Gaussian")
    record = None if force else finished(folder, run_name(chosen, dataset))
    if record is not None:
        note(f"{record.run} is already finished ({folder / record.run}.json); --force trains it again")
        return record
    with Progress(chosen.training.max_seconds) as progress:
        record = run(chosen, dataset, folder, progress)
    note(f"written to {folder / record.run}.json")
    return record


def _show(record: RunRecord, as_json: bool) -> None:
    """Print the record.

    Raises:
        FlowbenchError: the run ended in another way than well.
    """
    from flowbench.report.summary import summary

    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        if record.status != "diverged":
            print_result(summary(record))
    if record.status != "ok":
        hint = "a lower learning_rate, a log_scale_bound, or a clip_norm keeps it finite"
        diverged = record.status == "diverged"
        raise FlowbenchError(f"the run {record.status}: {record.error}", hint=hint if diverged else None)


def _names(text: str | None) -> tuple[str, ...]:
    """Names as a line of CSV has them: with commas between, and in quotation marks where they have commas."""
    return tuple(next(csv.reader([text]), [])) if text else ()
