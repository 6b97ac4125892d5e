"""All that a folder of results has to compare, in the forms that are asked for. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from flowbench.report.outputs import Output
from flowbench.report.posteriors import written
from flowbench.report.posteriors.columns import as_sheet
from flowbench.report.posteriors.tables import PosteriorTable
from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.document import csv_rows, csv_text, document
from flowbench.report.ranking.tables import Table
from flowbench.report.ranking.write import write_report


def write_comparison(tables: Sequence[Table], bounds: Sequence[PosteriorTable], to: Sequence[Output]) -> None:
    """The rankings of densities, then the tables of posteriors; raises as `write_report`."""
    write_report(
        to,
        lambda: {**document(tables), "posteriors": written.document(bounds)},
        lambda: csv_text([*csv_rows(tables), *written.csv_rows(bounds)]),
        lambda _: [*map(ranking, tables), *map(as_sheet, bounds)],
    )
