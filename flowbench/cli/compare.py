"""``flowbench compare``."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Literal

import typer

from flowbench.cli import complete
from flowbench.cli.options import Json, Out

Sort = Literal["validation", "test", "density", "sampling", "train", "name"]
Format = Literal["table", "markdown", "csv", "json", "latex"]


def compare(
    folder: Annotated[
        Path | None, typer.Argument(help="The folder of results.", show_default="--out, or its default")
    ] = None,
    out: Out = None,
    sort: Annotated[
        Sort, typer.Option(help="What lines are ranked by; the best is chosen on validation rows unless it is test.")
    ] = "validation",
    data: Annotated[
        str | None, typer.Option(help="Only runs on this dataset.", autocompletion=complete.datasets)
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.", autocompletion=complete.flows)] = None,
    form: Annotated[Format, typer.Option("--format", help="How tables are written; LaTeX's needs booktabs.")] = "table",
    pairs: Annotated[bool, typer.Option("--pairs", help="Print the differences of all pairs, with intervals.")] = False,
    as_json: Json = False,
) -> None:
    """Rank all runs by likelihood beside the published numbers, in one table for each dataset."""
    from flowbench.report.ranking.tables import tables
    from flowbench.report.ranking.write import write_pairs, write_ranking
    from flowbench.results.store import read_all, results_dir

    gc.disable()  # all that is made here lives till the end; to look for garbage in it took half the time
    found = tables(read_all(results_dir(folder or out)), data, flow, sort)
    (write_pairs if pairs else write_ranking)(found, "json" if as_json else form)
