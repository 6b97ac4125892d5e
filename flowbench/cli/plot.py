"""``flowbench plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flowbench.cli import complete
from flowbench.cli.options import OnlyFlow, csv_names, file_to_write
from flowbench.console import note, one_line
from flowbench.errors import UsageError

Kind = Literal["curves", "samples", "pairs", "frontier", "scaling", "pit", "history"]
Columns = Literal["one", "two"]
By = Literal["seconds", "epoch", "step"]


def plot(
    run: Annotated[
        str | None,
        typer.Argument(help="A run, by its name.", show_default=False, autocompletion=complete.runs),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Of all runs on this dataset.", show_default=False, autocompletion=complete.datasets),
    ] = None,
    flow: OnlyFlow = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="curves: training. frontier: likelihood against costs. pairs: paired differences of all lines, or of "
            "a RUN its columns in pairs. history: over revisions. scaling: costs against columns. Of a RUN, samples: "
            "its columns beside the data's; pit: its calibration."
        ),
    ] = "curves",
    by: Annotated[By, typer.Option(help="What curves are drawn against.")] = "seconds",
    only: Annotated[str | None, typer.Option(help="Of a RUN, only these columns: a,b.", show_default="all")] = None,
    columns: Annotated[Columns, typer.Option(help="As wide as one column of a paper, or two.")] = "two",
    out: Annotated[Path, typer.Option(help="The file: .pdf, .svg or .png.")] = Path("figure.pdf"),
    results: Annotated[
        Path | None,
        typer.Option(help="The folder of results.", show_default="$FLOWBENCH_RESULTS_DIR or ./results"),
    ] = None,
) -> None:
    """Draw one picture for a paper: of a run, or of all runs on a dataset. The page of `flowbench report` has the same.

    PDF and SVG are drawn as vectors, with their fonts, PNG at 300 dots an inch.
    """
    from flowbench.files import written_whole
    from flowbench.report.drawing import FORMS, drawn, needed
    from flowbench.report.plotted import Wish, plotted
    from flowbench.results.store import results_dir

    if run is not None and (data is not None or flow is not None):
        raise UsageError("a RUN is on its own data and of its own flow", "leave --data and --flow out")
    needed()
    out = file_to_write(out, FORMS)
    picture = plotted(results_dir(results), Wish(kind, run, data, flow, by, columns, csv_names(only)))
    with written_whole(out) as file:
        file.write(drawn(picture, out.suffix.lower(), columns))
    note(f"{one_line(str(out))}: {picture.title}")
    for said in picture.notes:
        note(f"  {said}")
