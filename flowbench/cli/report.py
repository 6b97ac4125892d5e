"""``flowbench report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowbench.cli.options import OnlyData, OnlyFlow, ResultsFolder, file_to_write
from flowbench.console import note, one_line, plural


def report(
    folder: ResultsFolder = None,
    data: OnlyData = None,
    flow: OnlyFlow = None,
    out: Annotated[Path, typer.Option(help="The file that the page is written to.")] = Path("report.html"),
) -> None:
    """Write all results as one page: tables to sort, curves, frontiers, and what each flow learned.

    The page is one HTML file that opens anywhere, offline, and asks for nothing.
    """
    import gc

    from rich.filesize import decimal

    from flowbench.files import written_whole
    from flowbench.report.drawing import needed
    from flowbench.report.page.build import page
    from flowbench.report.page.document import document
    from flowbench.report.page.text import as_text
    from flowbench.report.ranking.tables import tables
    from flowbench.report.runs import distinct
    from flowbench.results import costs, store, sweeps
    from flowbench.results.documents import UnreadableRecordError

    needed()
    gc.disable()  # all that is made here lives till the end
    folder, out = store.results_dir(folder), file_to_write(out, (".html", ".htm"))
    problems: list[str] = []
    times: list[costs.TimeRecord] = []

    def damaged(path: Path, error: UnreadableRecordError) -> None:
        store.warn_of(path, error)
        problems.append(str(error))

    runs, swept = sweeps.with_runs(folder, costs.into(times), damaged)
    found = [] if times and not runs else tables(distinct(runs), data, flow, passed_over=sweeps.passed_over(swept))
    content = page(document(folder, found, times, problems), as_text(found)).encode(errors="backslashreplace")
    with written_whole(out) as file:
        file.write(content)
    shown = sum(len(line.runs) for table in found for line in table.lines)
    note(f"{one_line(str(out))}: {plural(shown, 'run')} on {plural(len(found), 'dataset')}, {decimal(len(content))}")
