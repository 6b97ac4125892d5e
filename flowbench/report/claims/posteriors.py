"""What IAF was made for: a posterior better than a diagonal one, each sample and its density one pass. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flowbench.report.claims.findings import Claim, Finding, nats, not_measured, verdict
from flowbench.report.claims.speeds import SLOW
from flowbench.report.layout import significant
from flowbench.report.ranking.lines import LEVEL
from flowbench.report.variational.tables import PosteriorTable, Row, paired
from flowbench.results.inference import Difference
from flowbench.results.record import configuration
from flowbench.results.variational import PosteriorRecord, Way

SUITS = "IAF suits a variational posterior: its bound is above that of a diagonal Gaussian"

ONE_PASS = "IAF: a sample and its density in one pass; the density of a given point D passes"


def suits(tables: Sequence[PosteriorTable], command: str) -> Claim:
    """That an IAF's bound is above the diagonal's, of the same rows, beyond chance."""
    findings = [finding for table in tables for finding in _contests(table)]
    how = f"`{command.format(flow='diagonal')}` and `{command.format(flow='iaf')}` measure it"
    return Claim(SUITS, tuple(findings or [not_measured(how, "iaf and diagonal")]))


def one_pass(tables: Sequence[PosteriorTable], command: str) -> Claim:
    """That the density of a given point is an IAF's slow direction: by the textbook's passes, and by substitution."""
    records = [row.record for table in tables for row in table.rows if row.record.task.flow == "iaf"]
    findings = [finding for record in records for finding in _speeds(record)]
    return Claim(ONE_PASS, tuple(findings or [not_measured(f"`{command.format(flow='iaf')}` measures it", "iaf")]))


def _contests(table: PosteriorTable) -> Iterator[Finding]:
    """The best of both on validation rows, in one configuration of all but the flow."""
    rows = [row for row in table.rows if row.record.status == "ok"]  # in the order of validation rows
    diagonals: dict[str, Row[PosteriorRecord]] = {}
    for row in (row for row in rows if row.record.task.flow == "diagonal"):
        diagonals.setdefault(_settings(row, row), row)
    met = set()
    for iaf in (row for row in rows if row.record.task.flow == "iaf"):
        for settings, diagonal in diagonals.items():
            found = paired(iaf, diagonal) if _settings(iaf, diagonal) == settings and settings not in met else None
            if found is not None:
                met.add(settings)
                yield _contest(table, iaf, diagonal, found)


def _settings(row: Row[PosteriorRecord], diagonal: Row[PosteriorRecord]) -> str:
    """The recipe and all that a diagonal posterior has of settings: those of the model and of training."""
    record, known = row.record, diagonal.record.setup.config
    return f"{record.setup.recipe} {configuration(record, record.setup.config.keys() - known.keys())}"


def _contest(
    table: PosteriorTable, iaf: Row[PosteriorRecord], diagonal: Row[PosteriorRecord], found: Difference
) -> Finding:
    figures: dict[str, Any] = {
        "first": iaf.record.model,
        "second": diagonal.record.model,
        "data": table.data,
        "difference_nats": found.mean,
        "stderr_nats": found.stderr,
        "p": found.p_below(0.0),
    }
    on = f"{iaf.record.model} and diagonal on {table.data} ({iaf.record.networks})"
    return Finding(
        on, verdict(found.mean > 0 and found.p_below(0.0) <= LEVEL), f"iaf − diagonal: {nats(found)}", figures
    )


def _speeds(record: PosteriorRecord) -> Iterator[Finding]:
    largest = max((cost.batch for cost in record.costs), default=0)
    costs = {(cost.direction, cost.way): cost.us_per_row for cost in record.costs if cost.batch == largest}
    sample = costs.get(("sample", "one pass"))
    ways: dict[Way, str] = {"passes": "the textbook's passes", "substitution": "substitution"}
    for way, name in ways.items():
        density = costs.get(("density", way))
        if sample is not None and density is not None:
            said = (
                f"a sample with its density {significant(sample)}, the density of a point {significant(density)} µs/row"
            )
            figures = {
                "data": record.task.data,
                "way": way,
                "batch": largest,
                "sample_us_per_row": sample,
                "density_us_per_row": density,
                "device": record.environment.device_name,
            }
            yield Finding(
                f"{record.model} on {record.task.data}, by {name}", verdict(density > SLOW * sample), said, figures
            )
