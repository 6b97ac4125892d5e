"""The commands: parse, call, print. Heavy imports live inside the command bodies, so that ``--help`` is quick."""

from __future__ import annotations

import csv
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from flowbench import cli_trained
from flowbench.console import FlowbenchError, UsageError, did_you_mean, note, show_error, warn

P = ParamSpec("P")

app = typer.Typer(
    name="flowbench",
    help="How good a density can a normalizing flow learn of a table, and what does a density or a sample cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TABLES = "Tables of your own"

_debug = False


def main() -> None:
    """The entry point of the command line."""
    app()


def _command(body: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into a message and an exit code; a traceback only with ``--debug``."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            body(*args, **kwargs)
        except FlowbenchError as error:
            show_error(error)
            raise SystemExit(error.exit_code) from (error if _debug else None)
        except KeyboardInterrupt:
            note("interrupted")
            raise SystemExit(130) from None
        except Exception as error:
            if _debug:
                raise
            crash = FlowbenchError(
                f"{type(error).__name__}: {error}", hint="a defect of flowbench's: `flowbench --debug …` shows where"
            )
            show_error(crash)
            raise SystemExit(crash.exit_code) from None

    return run


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of results [default: $FLOWBENCH_RESULTS_DIR or ./results].", show_default=False),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from flowbench import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    global _debug
    _debug = debug


@app.command()
@_command
def train(
    flow: Annotated[str, typer.Argument(help="A flow: maf, iaf, realnvp, gaussian (`flowbench list` has all).")],
    data: Annotated[
        str, typer.Option(help="A dataset's name, or a .csv, .tsv, .parquet, .npy or .npz file, or a folder of such.")
    ] = "patches",
    recipe: Annotated[str, typer.Option(help="fast, or paper: the protocol of 2017.")] = "fast",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, batches and an own table's split.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
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

    from flowbench import flows, results
    from flowbench.config import packaged_layers, resolve, user_layers
    from flowbench.console import Progress
    from flowbench.data import TableOptions, load
    from flowbench.environment import resolve_device
    from flowbench.files import ensure_writable
    from flowbench.memory import keep_freed_memory
    from flowbench.run import run, run_name
    from flowbench.summary import summary

    if threads is not None:
        torch.set_num_threads(threads)
    given = {"max_epochs": max_epochs, "max_seconds": max_seconds}
    user = user_layers(config, settings or []) | {key: value for key, value in given.items() if value is not None}
    where = {"device": resolve_device(device), "threads": torch.get_num_threads()}
    layers = packaged_layers(flow, data, recipe)
    chosen = resolve(flows.load(flow).Options, layers, user, flow=flow, data=data, recipe=recipe, seed=seed, **where)
    table_options = TableOptions(_names(columns), _names(drop_columns), dropna, split, test_fraction, dequantise)
    dataset = load(data, seed=seed, allow_partial=allow_partial, table_options=table_options)
    keep_freed_memory()  # of training: what a large table needed while it was converted is given back
    chosen = chosen.model_copy(update={"data": dataset.card.name})  # a table is what it holds, wherever it lies
    if dataset.dim == 1:
        warn("with one column there is nothing to condition on: every affine flow is a Gaussian")
    folder = results.results_dir(out)
    ensure_writable(folder)
    row = None if force else results.finished(folder, run_name(chosen, dataset))
    if row is not None:
        note(f"{row.run} is already finished ({folder / row.run}.json); --force trains it again")
    else:
        with Progress(chosen.training.max_seconds) as progress:
            row = run(chosen, dataset, folder, progress)
    if as_json:
        _print_json(row.model_dump(mode="json"))
    else:
        _print(summary(row))
        note(f"written to {folder / row.run}.json")
    if row.status != "ok":
        raise FlowbenchError(f"the run {row.status}: {row.error}")


def _names(text: str | None) -> tuple[str, ...]:
    """Names as a line of CSV has them: with commas between, and in quotation marks where they have commas."""
    return tuple(next(csv.reader([text]), [])) if text else ()


@app.command(name="time")
@_command
def time_(
    flow: Annotated[list[str] | None, typer.Argument(help="Flows.", show_default="maf iaf realnvp")] = None,
    data: Annotated[str | None, typer.Option(help="Take a dataset's rows and sizes.", show_default="patches")] = None,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Or random rows of so many columns.", show_default=False)
    ] = None,
    hidden: Annotated[str | None, typer.Option(help="Hidden widths, e.g. 512,512.", show_default="the data's")] = None,
    transforms: Annotated[int | None, typer.Option(help="Transforms.", show_default="the data's")] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,100,1000",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting more.")] = None,
    inverse: Annotated[
        str, typer.Option(help="substitution; or passes, to time the textbook's beside it.")
    ] = "substitution",
    scaling: Annotated[bool, typer.Option(help="How costs grow with D at fixed width (1024), 64 to 1024.")] = False,
    peers: Annotated[bool, typer.Option(help="Time zuko, nflows, normflows and flowjax in turns with it.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="Time for each figure, at the least.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time densities, samples and training steps: medians, their floor, memory; beside textbook and peers."""
    if inverse not in ("substitution", "passes"):
        raise UsageError(f"unknown inverse {inverse!r}", hint=did_you_mean(inverse, ["substitution", "passes"]))
    if data is not None and (dim is not None or scaling):
        raise UsageError("--data brings its own columns: leave --dim and --scaling out")
    if scaling and (dim is not None or peers or inverse == "passes"):
        raise UsageError(
            "--scaling times flowbench's own directions at its own dimensions: leave the other options out"
        )
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # counting memory, it warns of blocks older than the count
    import torch

    from flowbench import benchmark, costs, results
    from flowbench.console import Working
    from flowbench.environment import resolve_device
    from flowbench.files import ensure_writable
    from flowbench.memory import keep_freed_memory

    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    chosen_device = resolve_device(device)
    if data is None and dim is None and not scaling:
        data = "patches"
    sizes = {"hidden": hidden or ("1024" if scaling else None), "transforms": transforms}
    given = [f"{key}={value}" for key, value in sizes.items() if value is not None] + (settings or [])
    chosen = benchmark.choose(flow or ["maf", "iaf", "realnvp"], data, given)
    plan = benchmark.Plan(_batches(batch), seconds, inverse == "passes", peers)
    folder = results.results_dir(out)
    ensure_writable(folder)
    name, rows = benchmark.rows(data, dim or 2, chosen_device)
    with Working() as working:
        row = benchmark.time_flows(chosen, rows, name, plan, scaling, working.on)
    path = costs.write(row, folder)
    if as_json:
        _print_json(row.model_dump(mode="json"))
    else:
        _print(costs.tables(row))
        note(f"written to {path}")


def _batches(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch takes sizes like 1,100,1000, not {text!r}")
    return sizes


@app.command()
@_command
def compare(out: Out = None, as_json: Json = False) -> None:
    """Set all runs found beside each other and beside the published numbers, one table a dataset."""
    from flowbench import compare as comparison
    from flowbench import results
    from flowbench.console import stdout

    tables = comparison.tables(results.read_all(results.results_dir(out)))
    if as_json:
        _print_json(comparison.document(tables))
    else:
        comparison.show(tables, stdout())


@app.command(name="list")
@_command
def list_(as_json: Json = False) -> None:
    """Name the flows, and the datasets with their shapes, source, licence and whether their raw files are there."""
    from flowbench import catalogue

    if as_json:
        _print_json(catalogue.document())
    else:
        _print(catalogue.render())


@app.command()
@_command
def fetch(
    names: Annotated[list[str], typer.Argument(help="Datasets (`flowbench list` has all).", metavar="NAME...")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="raw: the publisher's files; ready-made: the archive of the MAF paper's data.",
            show_default="raw, else ready-made",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download the raw files of datasets into $FLOWBENCH_DATA_DIR; what is there is left alone."""
    from flowbench.data.fetch import document, fetch_all

    reports = fetch_all(names, source)
    if as_json:
        _print_json(document(reports))
    else:
        for report in reports:
            if not report.error:
                print(report.summary)
    errors = [report.error for report in reports if report.error]
    for error in errors[:-1]:
        show_error(error)
    if errors:
        raise errors[-1]


app.command(name="log-prob")(_command(cli_trained.log_prob))
app.command(name="sample")(_command(cli_trained.sample))


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))


def _print(renderable: Any) -> None:
    from flowbench.console import stdout

    stdout().print(renderable)
