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
    from flowbench.report.comparison import Comparison, Wanted, compared
    from flowbench.report.drawing import needed
    from flowbench.report.page.build import page
    from flowbench.report.page.document import document
    from flowbench.report.page.text import as_text
    from flowbench.report.runs import distinct
    from flowbench.results import store, sweeps
    from flowbench.results.documents import UnreadableRecordError
    from flowbench.results.trainings import TRAINED, Others

    needed()
    gc.disable()  # all that is made here lives till the end
    folder, out = store.results_dir(folder), file_to_write(out, (".html", ".htm"))
    problems: list[str] = []
    others = Others(TRAINED | {"time"})

    def damaged(path: Path, error: UnreadableRecordError) -> None:
        store.warn_of(path, error)
        problems.append(str(error))

    runs, swept = sweeps.with_runs(folder, others.keep, damaged)
    wanted = Wanted(data, flow, passed_over=sweeps.passed_over(swept))
    found = (
        Comparison() if others.times and not others.trained and not runs else compared(distinct(runs), others, wanted)
    )
    shown = document(folder, found, others.times, problems)
    content = page(shown, as_text(found)).encode(errors="backslashreplace")
    with written_whole(out) as file:
        file.write(content)
    count = sum(dataset["runs"] for dataset in shown["datasets"])
    on = plural(len(shown["datasets"]), "dataset")
    note(f"{one_line(str(out))}: {plural(count, 'run')} on {on}, {decimal(len(content))}")
