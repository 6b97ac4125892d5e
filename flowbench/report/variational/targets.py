"""A table of fits to a target as columns of cells. No torch."""

from __future__ import annotations

from collections.abc import Callable

from flowbench.console import plural, printable
from flowbench.report.layout import Column, Figure, figured, significant
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.runs import target_of
from flowbench.report.variational.lines import Lines, there
from flowbench.report.variational.tables import TargetTable
from flowbench.results.variational import TargetFit, TargetRecord

NOTES = (
    "* KL(q || p): log Z minus the bound E_q[log p~ - log q], ± 2 standard errors over draws whose noise is the same "
    "for all; KL(p || q): over exact draws of p, where what q misses of p shows",
    "* log Z: by importance sampling of the same draws, of which so many per cent are effective",
    "* mean, sd: of the coordinate that is worst: how many of p's standard deviations off, and how many times p's",
    "* to the best: the paired difference of bounds ± 2 standard errors over draws: another seed may change more",
)


def heading(table: TargetTable) -> str:
    """What the table is of."""
    first = table.records[0]
    log_z = first.fit.true_log_z_nats
    known = "log Z is not known" if log_z is None else f"log Z is {log_z:.4f}"
    return f"fits to {printable(target_of(table.data))} · {plural(first.task.dim, 'coordinate')} · {known}"


def notes(table: TargetTable) -> list[str]:
    """What is to be read below it."""
    return [*NOTES, *Lines(table).doubts()]


def columns(table: TargetTable) -> list[Column]:
    """All that there is of its runs."""
    lines = Lines(table)

    def plain_figures(header: str, of: Callable[[TargetFit], float | None]) -> Column:
        return figured(header, [Figure(of(record.fit), None, 3) for record in table.records], 8)

    return there(
        [
            lines.models("fit"),
            lines.figures("bound", 3, lambda record: record.fit.bound_nats, high=True),
            lines.figures("KL(q || p)", 0, lambda record: record.fit.kl_nats),
            lines.figures("KL(p || q)", 1, lambda record: record.fit.forward_kl_nats),
            lines.to_best(4),
            lines.figures("log Z", 5, lambda record: record.fit.log_z_nats),
            lines.texts("effective\n%", 2, effective_percent),
            plain_figures("mean\noff, sds", lambda fit: fit.worst_mean_in_sds),
            plain_figures("sd\nratio", lambda fit: fit.worst_sd_ratio),
            *lines.costs(lambda record: record.costs),
            lines.texts("steps", 9, lambda record: f"{record.fit.steps:,}" if record.fit.steps else ""),
            *lines.of_all(),
        ]
    )


def as_sheet(table: TargetTable) -> Sheet:
    """As it is printed."""
    return sheet(heading(table), columns(table), len(table.rows), {}, notes(table))


def effective_percent(record: TargetRecord) -> str:
    """The share of its draws that count, in per cent."""
    fit = record.fit
    return significant(100 * fit.ess / fit.draws) if fit.ess is not None and fit.draws else ""
