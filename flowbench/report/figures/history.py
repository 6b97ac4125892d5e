"""A configuration over revisions of the code: has it got worse, as the gate would say it? No torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from flowbench.report.figures.figure import Picture, Row, grouped
from flowbench.report.gate.findings import Finding
from flowbench.report.gate.likelihoods import MAX_NATS, findings
from flowbench.report.gate.lines import lines
from flowbench.report.ranking.columns import device, spelt_out
from flowbench.report.ranking.lines import Line
from flowbench.report.ranking.tables import Table
from flowbench.report.runs import code
from flowbench.results.record import configuration

FIRST = "first"
"""Said of the oldest revision, which is held against nothing."""


def history(table: Table) -> Picture | None:
    """The lines that differ in their code alone, in the order of time; None where no configuration has two codes."""
    configurations = _configurations(table)
    if not configurations:
        return None
    pairs = [pair for revisions in configurations.values() for pair in _pairs(revisions)]
    verdicts = {id(now): found for (_, now), found in zip(pairs, _judged(pairs), strict=True)}
    rows = [_row(name, line, verdicts.get(id(line))) for name, lines in configurations.items() for line in lines]
    failed = [f"{row['when']}, {row['name']}: {row['verdict']}" for row in rows if row["nats"] is None]
    return Picture(
        "history",
        f"Configurations on {table.name} over revisions",
        "Points: mean test log-likelihood of a configuration by revision, in the order of time, with ± 2 standard "
        "errors over test rows. The shape and the word say how the gate judges it, row by row, against the one before.",
        _spec(),
        tuple(grouped(rows, "name")),
        (
            f"held against the one before as by `flowbench compare --against`, with its margin of {MAX_NATS:g} nats",
            *failed,
        ),
    )


def _pairs(revisions: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """Each line after the last before it that ended well."""
    before: Line | None = None
    for line in revisions:
        if before is not None:
            yield before, line
        before = line if line.ended else before


def _configurations(table: Table) -> dict[str, list[Line]]:
    """By a name, the lines of each configuration on each machine that has several codes, in the order of time."""
    found: dict[Hashable, list[Line]] = {}
    for line in table.lines:
        where = line.record.environment
        key = line.record.task.flow, configuration(line.record), where.device_name, where.threads, where.dtype
        found.setdefault(key, []).append(line)
    several = [sorted(group, key=_time) for group in found.values() if len({code(line.record) for line in group}) > 1]
    machines = {device(group[0].record.environment) for group in several}
    named = {}
    for place, group in enumerate(several, start=1):
        first = group[0]
        settings = f", {spelt_out(first)}" if first.settings else ""
        machine = f", {device(first.record.environment)}" if len(machines) > 1 else ""
        named[f"{place} {first.model}{settings}{machine}"] = group
    return named


def _time(line: Line) -> str:
    return min(run.record.started_at for run in line.runs)


def _judged(pairs: Sequence[tuple[Line, Line]]) -> list[Finding | None]:
    """What the gate says of each line, held against the one before; of all together, as its level is for all."""
    sides = [[{run.path: run.record for run in side.runs} for side in (now, before)] for before, now in pairs]
    held = [lines(*pair)[:1] for pair in sides]
    found = iter(findings([each for some in held for each in some]))
    return [next(found) if some else None for some in held]


def _row(name: str, line: Line, found: Finding | None) -> Row:
    test, record = line.test_ll_nats, line.record
    error = 2 * test.stderr if test and test.stderr is not None else 0.0
    revision = (record.environment.git_revision or code(record) or "unknown")[:7]
    return {
        "name": name,
        "when": f"{_time(line)[:16].replace('T', ' ')} · {revision}",
        "nats": test and test.mean,
        "low": test and test.mean - error,
        "high": test and test.mean + error,
        "verdict": found.verdict if found else FIRST if test else record.status,
        "change": found.measured.change if found and found.measured else None,
        "train_seconds": line.train_seconds,
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
        "transform": [{"filter": "isValid(datum.nats)"}],
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
    **dict.fromkeys(("incomparable", "damaged", "diverged", "failed", "interrupted"), "cross"),
}
