"""The comparison as plain text, for whoever opens a page where no program may run. No torch."""

from __future__ import annotations

import io
from collections.abc import Sequence

from flowbench.console import into
from flowbench.report.posteriors.columns import as_sheet
from flowbench.report.posteriors.tables import PosteriorTable
from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.sheet import show
from flowbench.report.ranking.tables import Table

MOST_LINES = 400
"""Of all tables: who has more has a browser."""


def as_text(tables: Sequence[Table], bounds: Sequence[PosteriorTable] = ()) -> str:
    """The tables as ``flowbench compare`` prints them into a file."""
    text = io.StringIO()
    show([*map(ranking, tables), *map(as_sheet, bounds)], into(text))
    shown = text.getvalue().splitlines()
    return "\n".join(shown[:MOST_LINES] + ["…"] * (len(shown) > MOST_LINES))
