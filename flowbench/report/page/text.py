"""The comparison as plain text, for whoever opens a page where no program may run. No torch."""

from __future__ import annotations

import io

from flowbench.console import into
from flowbench.report.comparison import Comparison
from flowbench.report.ranking.sheet import show

MOST_LINES = 400
"""Of all tables: who has more has a browser."""


def as_text(found: Comparison) -> str:
    """The tables as ``flowbench compare`` prints them into a file."""
    text = io.StringIO()
    show(found.sheets, into(text))
    shown = text.getvalue().splitlines()
    return "\n".join(shown[:MOST_LINES] + ["…"] * (len(shown) > MOST_LINES))
