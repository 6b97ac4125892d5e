"""Posteriors as a page shows them: a table like that of a dataset, without pictures. No torch."""

from __future__ import annotations

from typing import Any

from flowbench.console import one_line
from flowbench.report.page.cells import cells
from flowbench.report.posteriors.columns import columns, heading, notes
from flowbench.report.posteriors.tables import PosteriorTable


def posteriors(table: PosteriorTable) -> dict[str, Any]:
    """What `document` has of a dataset."""
    found = columns(table)
    best = next((row.record for row in table.rows if row.record.status == "ok"), None)
    nats = best.measured.mean if best and best.measured else None
    said = "No run ended well."
    if best is not None and nats is not None:
        said = f"Highest bound (chosen on validation rows): {one_line(best.model)}, {nats:.2f} test nats."
    runs = len(table.rows)
    rows: list[dict[str, Any]] = [
        {
            "kind": "run" if index < runs else "published",
            "runs": [],
            "place": index + 1 if index < runs else None,
            "mark": "best" if index < runs and table.rows[index].record is best else "",
        }
        for index in range(len(found[0].cells))
    ]
    return {
        "name": one_line(f"posteriors · {table.data}"),
        "heading": heading(table),
        "runs": runs,
        "best": best and {"model": one_line(best.model), "nats": nats},
        "words": {"best": said, "costs": []},
        "notes": [one_line(note).removeprefix("* ") for note in notes(table)],
        "table": cells(found, rows),
        "pictures": {},
    }
