"""Columns of cells of runs, and of published ones below them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flowbench.console import printable
from flowbench.report.layout import Column, Figure, duration, figured, significant
from flowbench.report.settings import differing
from flowbench.report.variational.tables import BoundTable
from flowbench.results.published import PublishedPosterior
from flowbench.results.record import Estimate, Trained
from flowbench.results.variational import Direction, PosteriorTiming

BATCH = 1000
"""Of the times that are shown."""

NONE = Figure(None, None)

T = TypeVar("T", bound=Trained)


@dataclass(frozen=True)
class Lines(Generic[T]):
    """Those of a table: runs, then published ones, of which less is known."""

    table: BoundTable[T]
    published: Sequence[PublishedPosterior] = ()

    def models(self, header: str) -> Column:
        """Their names."""
        own = [printable(record.model) for record in self.table.records]
        return Column(header, (*own, *(entry.label for entry in self.published)), right=False)

    def texts(self, header: str, rank: int, of: Callable[[T], str], folds: bool = False, named: bool = True) -> Column:
        """What is said of each run."""
        cells = (*map(of, self.table.records), *[""] * len(self.published))
        return Column(header, cells, rank, folds=folds, named=named, right=not folds)

    def figures(
        self,
        header: str,
        rank: int,
        of: Callable[[T], Estimate | None],
        published: Callable[[PublishedPosterior], tuple[float, float]] | None = None,
        high: bool = False,
    ) -> Column:
        """Means ± 2 standard errors."""
        own = [_figure(of(record)) for record in self.table.records]
        theirs = [Figure(*published(entry)) if published else NONE for entry in self.published]
        return figured(header, [*own, *theirs], rank, high=high)

    def to_best(self, rank: int) -> Column:
        """The paired differences."""
        found = [row.to_best for row in self.table.rows]
        own = [NONE if each is None else Figure(each.mean, 2 * each.stderr) for each in found]
        return figured("to the best", [*own, *[NONE] * len(self.published)], rank, sign="+")

    def costs(self, costs_of: Callable[[T], Sequence[PosteriorTiming]]) -> list[Column]:
        """Of a sample with its density, and of the density of a point."""
        return [
            self.texts("sample\nµs/row", 3, lambda record: _cost(costs_of(record), "sample")),
            self.texts("density\nµs/row", 5, lambda record: _cost(costs_of(record), "density")),
        ]

    def of_all(self) -> list[Column]:
        """What is known of each training, and what sets it apart."""
        records = self.table.records
        settings = dict(zip(map(id, records), map(_spelt, differing(records)), strict=True))
        return [
            self.texts("training", 11, lambda record: duration(record.training.train_seconds)),
            self.texts("state", 2, lambda record: "" if record.status == "ok" else record.status),
            self.texts("settings", 15, lambda record: settings[id(record)], folds=True, named=False),
            self.texts("seed", 13, lambda record: str(record.setup.seed), folds=True),
            self.texts("device", 14, lambda record: printable(record.environment.device_name), folds=True),
        ]

    def doubts(self) -> list[str]:
        """What is doubted of each, once."""
        records = self.table.records
        said = (f"* {printable(record.model)}: {printable(doubt)}" for record in records for doubt in record.doubts)
        return list(dict.fromkeys(said))


def there(columns: Sequence[Column]) -> list[Column]:
    """Those in which something stands."""
    return [column for column in columns if any(column.cells)]


def _spelt(own: dict[str, Any]) -> str:
    return printable(", ".join(f"{key}={value}" for key, value in own.items()))


def _figure(estimate: Estimate | None) -> Figure:
    if estimate is None or estimate.mean is None:
        return NONE
    return Figure(estimate.mean, None if estimate.stderr is None else 2 * estimate.stderr)


def _cost(costs: Sequence[PosteriorTiming], direction: Direction) -> str:
    """By the faster way, at the batch that is shown."""
    found = [cost.us_per_row for cost in costs if cost.direction == direction and cost.batch == BATCH]
    return significant(min(found, default=None))
