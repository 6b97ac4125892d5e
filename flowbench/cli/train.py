"""``flowbench train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowbench.cli import complete, tables
from flowbench.cli.options import (
    CHECKPOINT_EVERY,
    SETTINGS,
    ConfigFile,
    Device,
    Force,
    Json,
    MaxSeconds,
    NoSketch,
    Out,
    SetSettings,
    TensorBoard,
    Threads,
    csv_names,
)
from flowbench.cli.showing import show
from flowbench.console import print_json, print_result
from flowbench.errors import UsageError

if TYPE_CHECKING:
    from flowbench.training.order import How, Order

_BREAKS = "Breaks"
_SEEDS = "Seeds"

_GOES_WITH_RESUME = {
    "resume", "finish", "device", "threads", "force", "checkpoint_every", "out", "as_json", "tensorboard",
}  # fmt: skip

_OPTIONS = {"settings": "set", "list_settings": "settings", "as_json": "json"}
"""Those that are not named as their parameters are."""

_SEED = {"min": 0, "max": 2**32 - 1, "rich_help_panel": _SEEDS}


def train(
    context: typer.Context,
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
        typer.Option(**_SEED, help="Seeds the training: its initial weights and its batches."),
    ] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, rich_help_panel=_SEEDS, help="Train so many seeds, from --seed on, side by side.")
    ] = 1,
    device: Device = "auto",
    threads: Threads = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Accept raw files with fewer rows than the published data.")
    ] = False,
    no_sketch: NoSketch = False,
    force: Force = False,
    out: Out = None,
    as_json: Json = False,
    tensorboard: TensorBoard = False,
    recipe: Annotated[
        str,
        typer.Option(
            rich_help_panel=SETTINGS,
            help="How to train: fast, or paper for the protocol of the MAF paper (2017).",
            autocompletion=complete.recipes,
        ),
    ] = "fast",
    max_epochs: Annotated[
        int | None,
        typer.Option(
            min=0, rich_help_panel=SETTINGS, help="The largest number of epochs.", show_default="the recipe's"
        ),
    ] = None,
    max_seconds: MaxSeconds = None,
    on_divergence: Annotated[
        Literal["stop", "retry"] | None,
        typer.Option(
            rich_help_panel=SETTINGS,
            help="What follows a loss that is not finite: the end, or (three times at most) the best epoch's weights "
            "at half the rate.",
            show_default="stop",
        ),
    ] = None,
    settings: SetSettings = None,
    config: ConfigFile = None,
    list_settings: Annotated[
        bool,
        typer.Option(
            "--settings",
            rich_help_panel=SETTINGS,
            help="List all settings with their defaults for the flow, data and recipe, and exit.",
        ),
    ] = False,
    test_data: tables.TestData = None,
    validation_data: tables.ValidationData = None,
    columns: tables.Columns = None,
    drop_columns: tables.DropColumns = None,
    missing: tables.Missing = "refuse",
    dropna: tables.DropNA = False,
    kind: tables.Kind = None,
    bounds: tables.Bounds = None,
    transform: tables.ColumnTransform = None,
    allow_ties: tables.AllowTies = None,
    likelihood: tables.Likelihood = "density",
    split: tables.Split = "random",
    test_fraction: tables.TestFraction = 0.1,
    dequantise: tables.Dequantise = False,
    given: tables.GivenColumns = None,
    classes: tables.Classes = None,
    init_seed: Annotated[
        int | None, typer.Option(**_SEED, help="Seeds the initial weights alone.", show_default="--seed")
    ] = None,
    shuffle_seed: Annotated[
        int | None, typer.Option(**_SEED, help="Seeds the order of the batches alone.", show_default="--seed")
    ] = None,
    split_seed: Annotated[
        int, typer.Option(**_SEED, help="Seeds the split of a table of your own: all seeds of a training have one.")
    ] = 0,
    noise_seed: Annotated[
        int | None,
        typer.Option(**_SEED, help="Seeds the noise of --dequantise alone.", show_default="--split-seed"),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            rich_help_panel=_BREAKS,
            help="Go on with this run, which was broken off; nothing else is needed. The command that began it goes "
            "on, too.",
            show_default=False,
        ),
    ] = None,
    finish: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            rich_help_panel=_BREAKS,
            help="Take the best epoch of this run, which was broken off, evaluate it and close the run.",
            show_default=False,
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", rich_help_panel=_BREAKS, help="Begin anew, whatever there is of the run.")
    ] = False,
    checkpoint_every: Annotated[float | None, typer.Option(**CHECKPOINT_EVERY, rich_help_panel=_BREAKS)] = None,
) -> None:
    """Train a flow by maximum likelihood; show its test log-likelihood and what a density and a sample cost.

    Progress goes to stderr: on a terminal as one live line, elsewhere as a
    line for the first and the last epoch and, between them, one every five
    seconds at most.
    """
    if list_settings:
        from flowbench.cli.settings import show_settings

        return show_settings(flow, data, recipe, as_json)
    broken_off = resume or finish
    if broken_off:
        _refuse_more(context)
    elif flow is None:
        raise UsageError("name a flow to train", hint=f"there are: {', '.join(complete.flows(''))}")

    from flowbench.config import user_layers
    from flowbench.data import TableOptions
    from flowbench.files import ensure_writable
    from flowbench.report.summary import summary
    from flowbench.results.store import results_dir
    from flowbench.training.carry_out import carry_out, order_of
    from flowbench.training.order import How, Order

    folder = results_dir(out)
    ensure_writable(folder)  # before anything takes time
    if broken_off:
        where = {"device": device if device != "auto" else None, "threads": threads}
        order = order_of(broken_off, folder)
        also = {"tensorboard": tensorboard or order.tensorboard}
        order = order.model_copy(update={key: value for key, value in where.items() if value is not None} | also)
    else:
        named_kinds, found = tables.kinds_from(kind or [])
        column_transforms, tails_found = tables.transforms_from(transform or [])
        table = TableOptions(
            columns=csv_names(columns),
            drop_columns=csv_names(drop_columns),
            missing="drop" if dropna else missing,
            split=split,
            test_fraction=test_fraction,
            dequantise=dequantise,
            given=csv_names(given),
            classes=csv_names(classes),
            kinds=named_kinds,
            found=found,
            bounds=tables.bounds_from(bounds or []),
            allow_ties=csv_names(allow_ties),
            column_transforms=column_transforms,
            tails_found=tails_found,
            likelihood=likelihood,
        )
        own = {"max_epochs": max_epochs, "max_seconds": max_seconds, "on_divergence": on_divergence}
        order = Order(
            flow=str(flow),
            data=data,
            recipe=recipe,
            seed=seed,
            init_seed=init_seed,
            shuffle_seed=shuffle_seed,
            split_seed=split_seed,
            noise_seed=noise_seed,
            device=device,
            threads=threads,
            settings=user_layers(config, settings or []) | {k: v for k, v in own.items() if v is not None},
            allow_partial=allow_partial,
            table=table,
            test_data=test_data,
            validation_data=validation_data,
            sketch=not no_sketch,
            tensorboard=tensorboard,
        )
    how = How(force, restart, finish is not None, checkpoint_every, broken_off)
    if seeds > 1:
        return _seeds(order, seeds, folder, how, as_json)
    show(carry_out(order, folder, how), summary, as_json)


def _seeds(order: Order, seeds: int, folder: Path, how: How, as_json: bool) -> None:
    """Train so many seeds of an order, and print what they are together."""
    from flowbench.cli.sweep import end_sweep, gpus, records_of, refuse_what_cannot_train
    from flowbench.report.seeds import summary_of_seeds
    from flowbench.sweep.run import Machines, carry_out_all
    from flowbench.sweep.spec import Job

    began = time.monotonic()
    orders = [order.wherever().model_copy(update={"seed": order.seed + i}) for i in range(seeds)]
    jobs = [Job(i, each) for i, each in enumerate(orders)]
    refuse_what_cannot_train(jobs)
    machines = Machines(threads=order.threads, gpus=gpus(order.device))
    states = carry_out_all(jobs, folder, machines, how)
    records = list(records_of(states, folder).values())
    if as_json:
        print_json({"runs": [record.model_dump(mode="json") for record in records]})
    elif records:
        print_result(summary_of_seeds(records, folder))
    end_sweep(states, folder, time.monotonic() - began)


def _refuse_more(context: typer.Context) -> None:
    """Refuse what would change a run that is to be gone on with."""
    given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    more = sorted(set(given) - _GOES_WITH_RESUME)
    if more or ("resume" in given and "finish" in given):
        what = _OPTIONS.get(more[0], more[0].replace("_", "-")) if more else "finish"
        what = "a flow" if what == "flow" else f"--{what}"
        raise UsageError(f"--resume and --finish take a run as it was ordered: {what} cannot be given beside")
