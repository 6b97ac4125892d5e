"""The claims of the papers and of their review, with what the records at hand say of each. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from flowbench.console import printable
from flowbench.report.claims.duality import dual
from flowbench.report.claims.findings import Claim, Verdict
from flowbench.report.claims.likelihoods import as_flexible, unsuited
from flowbench.report.claims.posteriors import one_pass, suits
from flowbench.report.claims.speeds import SLOW, fast_both_ways, slow_one_way, speeds
from flowbench.report.layout import Column
from flowbench.report.outputs import Output
from flowbench.report.ranking.document import SCHEMA_VERSION, csv_text
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.ranking.tables import tables
from flowbench.report.ranking.write import write_report
from flowbench.report.runs import is_of
from flowbench.report.variational.tables import PosteriorTable
from flowbench.results.costs import TimeRecord
from flowbench.results.record import RunRecord

STYLES: dict[Verdict, str] = {"holds": "green", "does not hold": "red", "not measured": "dim"}

FIGURES_WIDTH = 46
"""Figures are wrapped at this width in a table: beside what they are of, a terminal of 80 columns has them all."""

NOTES = (
    f"* slow: more than {SLOW:g} times what the other direction costs, a row, at the largest batch that was timed",
    "* ±: 2 standard errors of the paired difference; unpaired: of two means, several times as wide",
    "* of one seed each, ± is over test rows alone: another seed may change more than that",
    "* less: beyond chance (p ≤ 0.05, one-sided, by Holm over a claim's rows), by the best lines on validation rows",
)


def claims(
    records: Mapping[Path, RunRecord],
    times: Sequence[TimeRecord],
    data: str | None = None,
    passed_over: Collection[str] = frozenset(),
    bounds: Sequence[PosteriorTable] = (),
) -> list[Claim]:
    """Each claim with what records of runs, times and posteriors say of it, on this ``data`` alone where it is given.

    Raises:
        NothingToCompareError: there is no record of these, or none on this data.
    """
    times = [record for record in times if data in (None, record.data, record.data.partition("~")[0])]
    on_data = any(is_of(record, data) for record in records.values())
    found = tables(records, data, passed_over=passed_over) if on_data or not (times or bounds) else []
    fast = speeds(found, times)
    on = f" --data {data}" if data else ""
    posterior = f"flowbench posterior {{flow}}{on}"
    time, sweep = f"flowbench time {{flow}}{on}", f"flowbench sweep {{flow}}{on or ' --data patches'}"
    return [
        slow_one_way("MAF: a density is fast, one pass; a sample is slow, D passes", "maf", "sampling", fast, time),
        slow_one_way("IAF: a sample is fast, one pass; a density is slow, D passes", "iaf", "density", fast, time),
        fast_both_ways("RealNVP: densities and samples are fast, one pass", "realnvp", fast, time),
        as_flexible(found, sweep),
        unsuited(found, sweep),
        dual([record for record in records.values() if is_of(record, data)]),
        one_pass(bounds, posterior),
        suits(bounds, posterior),
    ]


def write_claims(found: Sequence[Claim], to: Sequence[Output]) -> None:
    """The claims with their verdicts; raises as `write_report`."""
    rows = [{"claim": claim.said, **row} for claim in found for row in _rows(claim)]
    write_report(to, lambda: _document(found), lambda: csv_text(rows), lambda _: [_sheet(found)])


def _sheet(found: Sequence[Claim]) -> Sheet:
    """A claim is a part of the table, with a row for each finding."""
    findings = [finding for claim in found for finding in claim.findings]
    begins = accumulate((len(claim.findings) for claim in found), initial=0)
    verdicts = [finding.verdict for finding in findings]
    devices = [finding.figures.get("device", "") for finding in findings]
    several = len(set(devices) - {""}) > 1
    columns = [
        Column("on", tuple(printable(finding.on) for finding in findings), right=False),
        Column("verdict", tuple(verdicts), right=False, styles=tuple(STYLES[each] for each in verdicts)),
        *([Column("device", tuple(map(printable, devices)), rank=21, folds=True, right=False)] if several else []),
        Column("figures", tuple(printable(finding.said) for finding in findings), right=False, most=FIGURES_WIDTH),
    ]
    sections = dict(zip(begins, (claim.said for claim in found), strict=False))
    return sheet("What the papers claim, and what was measured", columns, len(findings), sections, NOTES)


def _document(found: Sequence[Claim]) -> dict[str, Any]:
    claims = [{"claim": claim.said, "findings": _rows(claim)} for claim in found]
    return {"kind": "claims", "schema_version": SCHEMA_VERSION, "claims": claims, "notes": list(NOTES)}


def _rows(claim: Claim) -> list[dict[str, Any]]:
    return [{"on": each.on, "verdict": each.verdict, "said": each.said, **each.figures} for each in claim.findings]
