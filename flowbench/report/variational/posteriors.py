"""A table of posteriors as columns of cells, the IAF paper's figures beside them. No torch."""

from __future__ import annotations

from flowbench.console import printable
from flowbench.report.layout import Column, significant
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.variational.lines import Lines, there
from flowbench.report.variational.tables import PosteriorTable
from flowbench.results.published import published_posteriors
from flowbench.results.variational import PosteriorRecord

NOTES = (
    "* bound: E_q[log p(x, z) − log q(z | x)] ± 2 standard errors over test rows; KL: of the posterior from the prior",
    "* log p(x): by importance sampling, an estimate that is too low on average, by the bias at least; of 128 samples "
    "unless another number stands there",
    "* to the best: the paired difference of bounds ± 2 standard errors over test rows: another seed may change more",
)


def heading(table: PosteriorTable) -> str:
    """What the table is of."""
    return f"posteriors on {printable(table.data)} · {table.records[0].task.n_test:,} test rows"


def notes(table: PosteriorTable) -> list[str]:
    """What is to be read below it."""
    said = "* published, ± standard deviations over five trainings"
    sources = dict.fromkeys(f"{said}: {entry.source}" for entry in published_posteriors(table.data))
    return [*NOTES, *sources, *Lines(table).doubts()]


def columns(table: PosteriorTable) -> list[Column]:
    """All that there is of its runs and of the published ones."""
    lines = Lines(table, published_posteriors(table.data))
    return there(
        [
            lines.models("posterior"),
            lines.figures("bound", 0, lambda r: r.bound.bound_nats, lambda entry: entry.bound_nats, high=True),
            lines.figures(
                "log p(x)", 1, lambda r: r.bound.log_likelihood_nats, lambda each: each.log_likelihood_nats, high=True
            ),
            lines.to_best(2),
            lines.figures("below truth", 3, lambda record: record.bound.nats_below_truth),
            lines.texts("samples", 9, lambda record: str(record.bound.importance_samples or "")),
            lines.texts("effective", 7, lambda record: significant(record.bound.ess)),
            lines.texts("bias", 8, lambda record: significant(record.bound.bias_nats)),
            lines.figures("KL", 4, lambda record: record.bound.kl_nats),
            lines.figures("reconstruction", 10, lambda record: record.bound.reconstruction_nats),
            lines.texts("active\nlatents", 6, _active),
            *lines.costs(lambda record: record.costs),
            lines.texts("networks", 12, lambda record: printable(record.networks), folds=True),
            *lines.of_all(),
        ]
    )


def as_sheet(table: PosteriorTable) -> Sheet:
    """As it is printed."""
    sections = {len(table.rows): "published"} if published_posteriors(table.data) else {}
    return sheet(heading(table), columns(table), len(table.rows), sections, notes(table))


def _active(record: PosteriorRecord) -> str:
    bound = record.bound
    return "" if bound.active_latents is None else f"{bound.active_latents}/{bound.latents}"
