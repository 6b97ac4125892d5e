"""What a page has to show, as one JSON document; the browser's part draws it. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowbench.console import one_line, printable
from flowbench.report.comparison import Comparison
from flowbench.report.figures import style
from flowbench.report.figures.curves import curves
from flowbench.report.figures.differences import differences
from flowbench.report.figures.frontier import frontier
from flowbench.report.figures.history import history
from flowbench.report.figures.labels import labels
from flowbench.report.figures.scaling import scaling
from flowbench.report.page.bounds import of_fits, of_posteriors
from flowbench.report.page.cells import cells
from flowbench.report.page.facts import facts
from flowbench.report.page.pool import Pool
from flowbench.report.page.sketched import Sketches
from flowbench.report.page.words import words
from flowbench.report.ranking.columns import columns as columns_of
from flowbench.report.ranking.columns import heading, papers
from flowbench.report.ranking.tables import Table
from flowbench.results.costs import TimeRecord


def document(
    folder: Path, compared: Comparison, times: Iterable[TimeRecord], problems: Sequence[str] = ()
) -> dict[str, Any]:
    """The page's content: its datasets, their tables and pictures, its runs, and what could not be read."""
    tables = compared.densities
    pool, sketches = Pool(), Sketches(tables)
    found = [_dataset(table, pool) for table in tables]
    growth = scaling(times)
    return {
        "folder": printable(folder.name or str(folder)),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "problems": [one_line(problem) for problem in (*problems, *sketches.problems)],
        "themes": {theme: style.config(theme) for theme in ("light", "dark")},
        "datasets": [*found, *map(of_posteriors, compared.posteriors), *map(of_fits, compared.targets)],
        "scaling": growth and pool.picture(growth),
        "runs": {
            run.record.run: facts(run.record, pool) | sketches.of(run, pool)
            for table in tables
            for line in table.lines
            for run in line.runs
        },
        "pool": pool.values,
    }


def _dataset(table: Table, pool: Pool) -> dict[str, Any]:
    names = labels(table)
    cost = frontier(table, names)
    pictures = {
        "frontier": cost,
        "curves": curves(table, names),
        "pairs": differences(table, names),
        "history": history(table),
    }
    best = table.best
    return {
        "name": one_line(table.name) or "(no name)",
        "heading": heading(table),
        "runs": sum(len(line.runs) for line in table.lines),
        "best": best and {"model": one_line(best.model), "nats": best.test_ll_nats and best.test_ll_nats.mean},
        "words": words(table, names, cost),
        "notes": [one_line(note) for note in (*papers(table), *table.notes)],
        "table": _table(table),
        "pictures": {kind: picture and pool.picture(picture) for kind, picture in pictures.items()},
    }


def _table(table: Table) -> dict[str, Any]:
    """The comparison's columns and rows; a row of a run names it, others say what they are."""
    lines, published = table.lines, table.published
    kinds = ["run"] * len(lines) + ["reference"] * len(table.references)
    kinds += ["published" if entry.density == "exact" else "estimated" for entry in published]
    rows = [
        {
            "kind": kind,
            "runs": [run.record.run for run in lines[index].runs] if index < len(lines) else [],
            "place": index + 1 if index < len(lines) else None,
            "mark": lines[index].mark if index < len(lines) else "",
        }
        for index, kind in enumerate(kinds)
    ]
    return cells(columns_of(table), rows)
