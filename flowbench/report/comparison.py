"""All that a folder of results has to compare, in the forms that are asked for. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowbench.report.outputs import Output
from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.document import csv_rows, csv_text, document
from flowbench.report.ranking.sheet import Sheet
from flowbench.report.ranking.tables import Sort, Table, tables
from flowbench.report.ranking.write import write_report
from flowbench.report.runs import is_of
from flowbench.report.variational import posteriors, targets, written
from flowbench.report.variational.tables import PosteriorTable, TargetTable, fits
from flowbench.report.variational.tables import posteriors as posterior_tables
from flowbench.results.record import RunRecord
from flowbench.results.trainings import Others


@dataclass(frozen=True)
class Comparison:
    """Tables: of densities, of posteriors, of fits to targets."""

    densities: Sequence[Table] = ()
    posteriors: Sequence[PosteriorTable] = ()
    targets: Sequence[TargetTable] = ()

    @property
    def sheets(self) -> list[Sheet]:
        """As they are printed."""
        bounds = [*map(posteriors.as_sheet, self.posteriors), *map(targets.as_sheet, self.targets)]
        return [*map(ranking, self.densities), *bounds]


@dataclass(frozen=True)
class Wanted:
    """What is compared: runs of one ``data`` or ``flow``, those that no sweep passed over, in the order asked for."""

    data: str | None = None
    flow: str | None = None
    sort: Sort = "validation"
    passed_over: frozenset[str] = field(default_factory=frozenset)


def compared(runs: Mapping[Path, RunRecord], others: Others, wanted: Wanted) -> Comparison:
    """What is wanted of a folder.

    Raises:
        NothingToCompareError: there is nothing of it.
    """
    data, flow = wanted.data, wanted.flow
    bounds, fitted = posterior_tables(others.posteriors, data, flow), fits(others.fits, data, flow)
    ranks = any(is_of(record, data, flow) for record in runs.values()) or not (bounds or fitted)
    return Comparison(tables(runs, data, flow, wanted.sort, wanted.passed_over) if ranks else (), bounds, fitted)


def write_comparison(found: Comparison, to: Sequence[Output]) -> None:
    """All its tables; raises as `write_report`."""
    write_report(
        to,
        lambda: {
            **document(found.densities),
            "posteriors": written.posteriors_document(found.posteriors),
            "targets": written.targets_document(found.targets),
        },
        lambda: csv_text([*csv_rows(found.densities), *written.csv_rows(found.posteriors, found.targets)]),
        lambda _: found.sheets,
    )
