"""A configuration over revisions of the code: has it got worse, as the gate would say it? No torch."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence
from itertools import pairwise

from flowbench.report.figures.figure import Picture, Row, grouped
from flowbench.report.gate.findings import Finding
from flowbench.report.gate.likelihoods import MAX_NATS, findings
from flowbench.report.gate.lines import lines
from flowbench.report.ranking.lines import Line, OverSeeds
from flowbench.report.ranking.tables import Table
from flowbench.report.runs import Run, code
from flowbench.results.record import configuration

FIRST = "first"
"""Said of the oldest revision, which is held against nothing."""


def history(table: Table) -> Picture | None:
    """The lines that differ in their code alone, in the order of time; None where no configuration has two codes."""
    rows = [row for revisions in _configurations(table) for row in _rows(revisions)]
    if not rows:
        return None
    return Picture(
        "history",
        f"Configurations on {table.name} over revisions",
        "Points: mean test log-likelihood of a configuration by revision, in the order of time, with ± 2 standard "
        "errors over test rows. The shape and the word say how the gate judges it, row by row, against the one before.",
        _spec(),
        tuple(grouped(rows, "name")),
        (f"held against the one before as by `flowbench compare --against`, with its margin of {MAX_NATS:g} nats",),
    )


def _configurations(table: Table) -> list[list[Line]]:
    """The lines of each configuration that has several codes, by the time of their first runs."""
    found: dict[Hashable, list[Line]] = {}
    for line in table.lines:
        if line.ended:
            where = line.record.environment
            key = line.record.task.flow, configuration(line.record), where.device_name, where.threads, where.dtype
            found.setdefault(key, []).append(line)
    several = [group for group in found.values() if len({code(line.record) for line in group}) > 1]
    return [sorted(group, key=_time) for group in several]


def _time(line: Line) -> str:
    return min(run.record.started_at for run in line.ended)


def _rows(revisions: Sequence[Line]) -> list[Row]:
    first = revisions[0]
    name = first.model + (f" ({first.record.setup.config_hash[:6]})" if first.settings else "")
    said = [None, *(_held(a.ended, b.ended) for a, b in pairwise(revisions))]
    return [
        _row(name, line, line.test_ll_nats, found)
        for line, found in zip(revisions, said, strict=True)
        if line.test_ll_nats
    ]


def _held(before: Sequence[Run], now: Sequence[Run]) -> Finding | None:
    """What the gate says of the new runs, held against those before."""
    sides = ({run.path: run.record for run in side} for side in (now, before))
    found = findings(lines(*sides))
    return found[0] if found else None


def _row(name: str, line: Line, test: OverSeeds, found: Finding | None) -> Row:
    record = line.record
    error = 2 * test.stderr if test.stderr is not None else 0.0
    revision = (record.environment.git_revision or code(record) or "unknown")[:7]
    seconds = [run.record.training.train_seconds for run in line.ended]
    known = [each for each in seconds if each is not None]
    return {
        "name": name,
        "when": f"{_time(line)[:16].replace('T', ' ')} · {revision}",
        "nats": test.mean,
        "low": test.mean - error,
        "high": test.mean + error,
        "verdict": found.verdict if found else FIRST,
        "change": found.measured.change if found and found.measured else None,
        "train_seconds": statistics.median(known) if known else None,
        "seeds": len(line.ended),
    }


def _spec() -> Row:
    x = {"field": "when", "type": "ordinal", "title": None, "axis": {"labelAngle": -35}}
    y = {"field": "nats", "type": "quantitative", "title": "test log-likelihood, nats", "scale": {"zero": False}}
    color = {"field": "name", "type": "nominal", "title": None, "sort": None}
    tip = [{"field": name} for name in ("name", "when", "nats", "low", "high", "verdict", "change", "seeds")]
    shape = {
        "field": "verdict",
        "type": "nominal",
        "title": "gate",
        "scale": {"domain": list(_SHAPES), "range": [*_SHAPES.values()]},
    }
    return {
        "encoding": {"x": x, "y": y, "color": color},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1}},
            {"mark": {"type": "rule"}, "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "point", "size": 90}, "encoding": {"shape": shape, "tooltip": tip}},
            {"mark": {"type": "text", "dy": -12, "style": "line-place"}, "encoding": {"text": {"field": "verdict"}}},
        ],
    }


_SHAPES = {
    FIRST: "circle",
    "same": "circle",
    "better": "triangle-up",
    "worse": "triangle-down",
    "undecided": "diamond",
    "incomparable": "cross",
}
