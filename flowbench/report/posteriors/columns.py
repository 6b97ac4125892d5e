"""A table of posteriors as columns of cells, with what stands above and below. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowbench.console import printable
from flowbench.report.layout import Column, Figure, duration, figured, significant
from flowbench.report.posteriors.tables import PosteriorTable
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.settings import differing
from flowbench.results.published import PublishedPosterior, published_posteriors
from flowbench.results.record import Estimate
from flowbench.results.variational import Direction, PosteriorRecord

NOTES = (
    "* bound: E_q[log p(x, z) − log q(z | x)] ± 2 standard errors over test rows; KL: of the posterior from the prior",
    "* log p(x): by importance sampling, an estimate that is too low on average, by about the bias; of 128 samples "
    "unless another number stands there",
    "* to the best: the paired difference of bounds ± 2 standard errors over test rows: another seed may change more",
)

BATCH = 1000
"""Of the times that are shown."""

_NONE = Figure(None, None)


@dataclass(frozen=True)
class _Lines:
    """Those of a table: runs, then published ones, of which less is known."""

    records: Sequence[PosteriorRecord]
    published: Sequence[PublishedPosterior]

    def texts(
        self, header: str, rank: int, of: Callable[[PosteriorRecord], str], folds: bool = False, named: bool = True
    ) -> Column:
        """What is said of each run."""
        cells = (*map(of, self.records), *[""] * len(self.published))
        return Column(header, cells, rank, folds=folds, named=named, right=not folds)

    def figures(
        self,
        header: str,
        rank: int,
        of: Callable[[PosteriorRecord], Estimate | None],
        published: Callable[[PublishedPosterior], tuple[float, float]] | None = None,
    ) -> Column:
        """Means ± 2 standard errors."""
        own = [_figure(of(record)) for record in self.records]
        theirs = [Figure(*published(entry)) if published else _NONE for entry in self.published]
        return figured(header, [*own, *theirs], rank, high=published is not None)


def heading(table: PosteriorTable) -> str:
    """What the table is of."""
    return f"posteriors on {printable(table.data)} · {table.rows[0].record.task.n_test:,} test rows"


def notes(table: PosteriorTable) -> list[str]:
    """What is to be read below it."""
    records = [row.record for row in table.rows]
    sources = [f"* published: {entry.source}" for entry in published_posteriors(table.data)]
    doubts = [f"* {printable(record.model)}: {printable(doubt)}" for record in records for doubt in record.doubts]
    return [*NOTES, *dict.fromkeys(sources + doubts)]


def columns(table: PosteriorTable) -> list[Column]:
    """All that there is of its runs and of the published ones."""
    records, published = [row.record for row in table.rows], published_posteriors(table.data)
    lines = _Lines(records, published)
    names = tuple([printable(record.model) for record in records] + [entry.label for entry in published])
    settings = dict(zip(map(id, records), map(_spelt, differing(records)), strict=True))
    found = [
        Column("posterior", names, right=False),
        lines.figures("bound", 0, lambda record: record.bound.bound_nats, lambda entry: entry.bound_nats),
        lines.figures(
            "log p(x)", 1, lambda record: record.bound.log_likelihood_nats, lambda entry: entry.log_likelihood_nats
        ),
        _to_best(table, len(published)),
        lines.figures("below truth", 3, lambda record: record.bound.nats_below_truth),
        lines.texts("samples", 9, lambda record: str(record.bound.importance_samples or "")),
        lines.texts("effective", 7, lambda record: significant(record.bound.ess)),
        lines.texts("bias", 8, lambda record: significant(record.bound.bias_nats)),
        lines.figures("KL", 4, lambda record: record.bound.kl_nats),
        lines.figures("reconstruction", 10, lambda record: record.bound.reconstruction_nats),
        lines.texts("active\nlatents", 6, _active),
        lines.texts("sample\nµs/row", 3, lambda record: _cost(record, "sample")),
        lines.texts("density\nµs/row", 5, lambda record: _cost(record, "density")),
        lines.texts("training", 11, lambda record: duration(record.training.train_seconds)),
        lines.texts("state", 2, lambda record: "" if record.status == "ok" else record.status),
        lines.texts("settings", 15, lambda record: settings[id(record)], folds=True, named=False),
        lines.texts("networks", 12, lambda record: printable(record.networks), folds=True),
        lines.texts("seed", 13, lambda record: str(record.setup.seed), folds=True),
        lines.texts("device", 14, lambda record: printable(record.environment.device_name), folds=True),
    ]
    return [column for column in found if any(column.cells)]


def as_sheet(table: PosteriorTable) -> Sheet:
    """As it is printed."""
    sections = {len(table.rows): "published"} if published_posteriors(table.data) else {}
    return sheet(heading(table), columns(table), len(table.rows), sections, notes(table))


def _to_best(table: PosteriorTable, more: int) -> Column:
    found = [row.to_best for row in table.rows]
    own = [_NONE if each is None else Figure(each.mean, 2 * each.stderr) for each in found]
    return figured("to the best", [*own, *[_NONE] * more], 2, sign="+")


def _spelt(own: dict[str, str]) -> str:
    return printable(", ".join(f"{key}={value}" for key, value in own.items()))


def _figure(estimate: Estimate | None) -> Figure:
    if estimate is None or estimate.mean is None:
        return _NONE
    return Figure(estimate.mean, None if estimate.stderr is None else 2 * estimate.stderr)


def _active(record: PosteriorRecord) -> str:
    return f"{record.bound.active_latents}/{record.bound.latents}" if record.bound.latents else ""


def _cost(record: PosteriorRecord, direction: Direction) -> str:
    """By the faster way, at the batch that is shown."""
    found = [cost.us_per_row for cost in record.costs if cost.direction == direction and cost.batch == BATCH]
    return significant(min(found, default=None))
