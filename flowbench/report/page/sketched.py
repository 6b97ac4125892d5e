"""The sketches of runs on a page, as many as its size allows: of the best lines first. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowbench.console import one_line, warn
from flowbench.report.figures.sketches import calibration, log_densities, marginals, pairs
from flowbench.report.page.pool import Pool
from flowbench.report.ranking.tables import Table
from flowbench.report.runs import Run
from flowbench.results.documents import UnreadableRecordError
from flowbench.results.sketch import ExtremeRow, Sketch
from flowbench.results.store import read_sketch

MOST_BYTES = 1_200_000
"""Of sketches' files on a page. What they share is there once, so that they take less."""


class Sketches:
    """Which runs' sketches a page has: one a line, in turns through the datasets, from the best line on."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._left = MOST_BYTES
        self._chosen: dict[int, Sketch] = {}
        self._left_out: set[int] = set()
        self.problems: list[str] = []
        """What could not be read."""
        ranked = [
            (seed, place, order, run)
            for order, table in enumerate(tables)
            for place, line in enumerate(table.lines)
            for seed, run in enumerate(line.ended)
        ]
        for *_, run in sorted(ranked, key=lambda found: found[:3]):
            self._choose(run)

    def _choose(self, run: Run) -> None:
        if run.record.files.sketch is None:
            return
        path = run.path.parent / run.record.files.sketch
        try:
            size = path.stat().st_size
            if size > self._left:
                self._left_out.add(id(run))
                return
            found = read_sketch(run.record, run.path.parent)
        except (OSError, UnreadableRecordError) as error:
            warn(f"passed over: {error}")
            self.problems.append(str(error))
            return
        if found is not None:
            self._left -= size
            self._chosen[id(run)] = found

    def of(self, run: Run, pool: Pool) -> dict[str, Any]:
        """The pictures of a run's flow as the page has them, or why there are none."""
        found = self._chosen.get(id(run))
        if found is None:
            return {"sketch": None, "unsketched": self._why_not(run)}
        title = run.record.model
        pictures = [*marginals(found, title), pairs(found, title), calibration(found, title)]
        pictures.append(log_densities(found, title))
        return {
            "sketch": {
                "pictures": [pool.picture(each) for each in pictures if each],
                "uncalibrated": found.uncalibrated and one_line(found.uncalibrated),
                "columns": pool.place([one_line(found.columns[each.column]) for each in found.marginals]),
                "least_likely": _extremes(found.least_likely),
                "most_likely": _extremes(found.most_likely),
                "images": found.images
                and {
                    name: getattr(found.images, name).model_dump()
                    | {"png": pool.place(getattr(found.images, name).png)}
                    for name in ("rows", "samples", "least_likely", "most_likely")
                },
            }
        }

    def _why_not(self, run: Run) -> str:
        if id(run) in self._left_out:
            return "left out to keep the page small: flowbench plot draws it"
        if run.record.status != "ok":
            return "the run did not end well"
        if run.record.files.sketch is not None:
            return "its sketch is damaged, or not there any more"
        return "none was kept: older runs have none, nor have those that were trained with --no-sketch"


def _extremes(rows: Sequence[ExtremeRow]) -> list[dict[str, Any]]:
    return [row.model_dump() for row in rows]
