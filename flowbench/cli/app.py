"""The commands: parse, call, print. Heavy imports live inside the command bodies, so that ``--help`` is quick."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from typing import Annotated, NoReturn, ParamSpec

import typer

from flowbench.cli import time, train
from flowbench.cli import use as trained
from flowbench.cli.options import Json, Out
from flowbench.console import note, print_json, print_result, show_error, stdout
from flowbench.errors import DataError, FlowbenchError

P = ParamSpec("P")

app = typer.Typer(
    name="flowbench",
    help="How good a density can a normalizing flow learn of a table, and what does a density or a sample cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False
_stopped_by = 0


def main() -> None:
    """The entry point of the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    app()


def _stop(number: int, _: object) -> None:
    """End what is under way as Ctrl-C does: nothing half-written stays, and a run's row says so."""
    global _stopped_by
    _stopped_by = number
    raise KeyboardInterrupt


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
            _leave_interrupted()
        except Exception as error:
            if _stopped_by:  # an import that was interrupted may raise anything
                _leave_interrupted()
            if _debug:
                raise
            if isinstance(error, OSError) and error.strerror:  # the system's, not a defect
                refused = DataError(f"{error.filename or 'output'}: {error.strerror}")
                show_error(refused)
                raise SystemExit(refused.exit_code) from None
            crash = FlowbenchError(
                f"{type(error).__name__}: {error}", hint="a defect of flowbench's: `flowbench --debug …` shows where"
            )
            show_error(crash)
            raise SystemExit(crash.exit_code) from None

    return run


def _leave_interrupted() -> NoReturn:
    note("interrupted")
    raise SystemExit(128 + (_stopped_by or signal.SIGINT))


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


app.command(name="train")(_command(train.train))
app.command(name="time")(_command(time.time))
app.command(name="log-prob")(_command(trained.log_prob))
app.command(name="sample")(_command(trained.sample))


@app.command()
@_command
def compare(out: Out = None, as_json: Json = False) -> None:
    """Set all runs found beside each other and beside the published numbers, one table a dataset."""
    from flowbench.report import compare as comparison
    from flowbench.results import store as results

    tables = comparison.tables(results.read_all(results.results_dir(out)))
    if as_json:
        print_json(comparison.document(tables))
    else:
        comparison.show(tables, stdout())


@app.command(name="list")
@_command
def list_(as_json: Json = False) -> None:
    """Name the flows, and the datasets with their shapes, source, licence and whether their raw files are there."""
    from flowbench.report import catalogue

    if as_json:
        print_json(catalogue.document())
    else:
        print_result(catalogue.render())


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
    from flowbench.data.sources.fetch import document, fetch_all

    reports = fetch_all(names, source)
    if as_json:
        print_json(document(reports))
    else:
        for report in reports:
            if not report.error:
                print(report.summary)
    errors = [report.error for report in reports if report.error]
    for error in errors[:-1]:
        show_error(error)
    if errors:
        raise errors[-1]
