"""Posteriors and fits to targets as a page shows them: tables like those of datasets, without pictures. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from flowbench.console import one_line
from flowbench.report.layout import Column
from flowbench.report.page.cells import cells
from flowbench.report.runs import target_of
from flowbench.report.variational import posteriors, targets
from flowbench.report.variational.tables import BoundTable, PosteriorTable, TargetTable
from flowbench.results.record import Trained

T = TypeVar("T", bound=Trained)


def of_posteriors(table: PosteriorTable) -> dict[str, Any]:
    """What `document` has of a dataset."""
    name, heading = f"posteriors · {table.data}", posteriors.heading(table)
    return _dataset(table, name, heading, posteriors.columns(table), posteriors.notes(table))


def of_fits(table: TargetTable) -> dict[str, Any]:
    """What `document` has of a dataset."""
    name, heading = f"target · {target_of(table.data)}", targets.heading(table)
    return _dataset(table, name, heading, targets.columns(table), targets.notes(table))


def _dataset(
    table: BoundTable[T], name: str, heading: str, columns: Sequence[Column], notes: Sequence[str]
) -> dict[str, Any]:
    best, runs = table.best, len(table.rows)
    nats = best.measured.mean if best and best.measured else None
    said = "No run ended well."
    if best is not None and nats is not None:
        said = f"Highest bound (chosen on validation rows): {one_line(best.model)}, {nats:.2f} nats."
    rows: list[dict[str, Any]] = [
        {
            "kind": "run" if index < runs else "published",
            "runs": [],
            "place": index + 1 if index < runs else None,
            "mark": "best" if index < runs and table.records[index] is best else "",
        }
        for index in range(len(columns[0].cells))
    ]
    return {
        "name": one_line(name),
        "heading": heading,
        "runs": runs,
        "best": best and {"model": one_line(best.model), "nats": nats},
        "words": {"best": said, "costs": []},
        "notes": [one_line(note).removeprefix("* ") for note in notes],
        "table": cells(columns, rows),
        "pictures": {},
    }
