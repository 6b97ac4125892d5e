"""The command line, put together. Heavy imports live inside the commands' bodies, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from flowbench.cli import (
    cache,
    check,
    compare,
    export,
    fetch,
    fit_target,
    list,
    log_prob,
    merge,
    plot,
    posterior,
    report,
    sweep,
    time,
    train,
    use,
)
from flowbench.cli.command import Commands, command, open_standard_streams, show_tracebacks
from flowbench.console import print_result

app = typer.Typer(
    name="flowbench",
    cls=Commands,
    help="How good a density can a normalizing flow learn of a table, and what does a density or a sample cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Read the command line, and do what it says."""
    open_standard_streams()
    app(prog_name="flowbench")


def _print_version(wanted: bool) -> None:
    if wanted:
        from flowbench import __version__

        print_result(__version__)
        raise typer.Exit


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    show_tracebacks(debug)


for _name, _body in (
    ("train", train.train),
    ("sweep", sweep.sweep),
    ("posterior", posterior.posterior),
    ("fit-target", fit_target.fit_target),
    ("time", time.time),
    ("log-prob", log_prob.log_prob),
    ("sample", use.sample),
    ("compare", compare.compare),
    ("report", report.report),
    ("plot", plot.plot),
    ("merge", merge.merge),
    ("export", export.export),
    ("list", list.list_),
    ("fetch", fetch.fetch),
    ("cache", cache.cache),
    ("check", check.check),
):
    app.command(name=_name)(command(_body))
