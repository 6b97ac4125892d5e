"""Which direction of a flow is fast: a density and a sample beside each other, by every way to invert. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from flowbench.report.claims.findings import Claim, Finding, not_measured, verdict
from flowbench.report.layout import significant
from flowbench.report.ranking.columns import device
from flowbench.report.ranking.tables import Table
from flowbench.results.costs import Cost, Shape, TimeRecord

SLOW = 3.0
"""A direction is slow if a row costs more than so many times what the other direction costs."""

WAYS = {
    "passes": "the textbook's passes",
    "jacobi": "Jacobi's iteration",
    "substitution": "substitution",
}


@dataclass(frozen=True)
class Speed:
    """What a row costs in microseconds, the autoregressive transforms inverted in one way; ``on`` is flow and data."""

    flow: str
    on: str
    way: str
    batch: int
    density_us: float
    sampling_us: float
    passes: float | None
    where: str


def speeds(tables: Sequence[Table], times: Sequence[TimeRecord]) -> list[Speed]:
    """The latest of each flow, data, way and machine: from records of times, or where a flow has none, of runs."""
    timed = [speed for record in sorted(times, key=_latest, reverse=True) for speed in _of_times(record)]
    flows = {speed.flow for speed in timed}
    of_runs = [speed for table in tables for speed in _of_runs(table) if speed.flow not in flows]
    found: dict[tuple[str, ...], Speed] = {}
    for speed in [*timed, *of_runs]:
        found.setdefault((speed.on, speed.way, speed.where), speed)
    return list(found.values())


def slow_one_way(said: str, flow: str, slow: str, found: Iterable[Speed], command: str) -> Claim:
    """That ``slow``, "density" or "sampling", is the flow's slow direction: by the papers' passes and by other ways."""
    of_flow = [speed for speed in found if speed.flow == flow]

    def findings() -> Iterator[Finding]:
        for way, name in WAYS.items():
            measured = [speed for speed in of_flow if speed.way == way]
            option = "" if way == "substitution" else f" --inverse {way}"
            yield from (_one_way(speed, slow) for speed in measured)
            if not measured:
                yield not_measured(f"`{command.format(flow=flow)}{option}` measures it", f"{flow}, by {name}")

    return Claim(said, tuple(findings()))


def fast_both_ways(said: str, flow: str, found: Iterable[Speed], command: str) -> Claim:
    """That neither direction of the flow is slow."""
    findings = [_both_ways(speed) for speed in found if speed.flow == flow]
    return Claim(said, tuple(findings or [not_measured(f"`{command.format(flow=flow)}` measures it", flow)]))


def _one_way(speed: Speed, slow: str) -> Finding:
    took = "" if speed.passes is None else f" ({speed.passes:.3g} a transform)"
    return _finding(speed, slow, f", by {WAYS[speed.way]}{took}", lambda ratio: ratio > SLOW)


def _both_ways(speed: Speed) -> Finding:
    return _finding(speed, "sampling", "", lambda ratio: 1 / SLOW <= ratio <= SLOW)


def _finding(speed: Speed, slow: str, how: str, holds: Callable[[float], bool]) -> Finding:
    """Of the ratio of the ``slow`` direction to the other one."""
    (one, cost), (other, other_cost) = ("density", speed.density_us), ("sampling", speed.sampling_us)
    if slow == "sampling":
        (one, cost), (other, other_cost) = (other, other_cost), (one, cost)
    ratio = cost / other_cost
    said = f"{one} {ratio:.2f} × {other}{how}: {significant(cost)} and {significant(other_cost)} µs/row @ {speed.batch}"
    figures = {
        "inverse": speed.way,
        "batch": speed.batch,
        "density_us_per_row": speed.density_us,
        "sampling_us_per_row": speed.sampling_us,
        "ratio": ratio,
        "passes_taken": speed.passes,
        "device": speed.where,
    }
    return Finding(speed.on, verdict(holds(ratio)), said, figures)


def _latest(record: TimeRecord) -> tuple[bool, str]:
    return record.finished, record.started_at


def _of_times(record: TimeRecord) -> Iterator[Speed]:
    """By substitution, then by the other ways that were timed, at the largest batch that has both directions."""
    for shape in record.shapes:
        own = {(cost.batch, cost.work): cost for cost in shape.costs if cost.model == shape.flow}
        batches = [batch for batch, work in own if work == "sampling" and (batch, "density") in own]
        if batches:
            batch = max(batches)
            others = [cost for cost in shape.costs if cost.inverse and cost.batch == batch]
            directions = {"density": own[batch, "density"], "sampling": own[batch, "sampling"]}
            yield _speed(record, shape, "substitution", directions, None)
            for cost in others:
                yield _speed(record, shape, str(cost.inverse), directions | {cost.work: cost}, cost.passes_taken)


def _speed(record: TimeRecord, shape: Shape, way: str, costs: dict[str, Cost], passes: float | None) -> Speed:
    density, sampling = costs["density"], costs["sampling"]
    batch = density.batch
    return Speed(
        shape.flow,
        f"{shape.title} on {record.data}",
        way,
        batch,
        density.us / batch,
        sampling.us / batch,
        passes,
        device(record.environment),
    )


def _of_runs(table: Table) -> Iterator[Speed]:
    """Of the first line of each flow, at its largest batch."""
    seen = set()
    for line in table.lines:
        flow, costs = line.record.task.flow, line.costs()
        if costs and flow not in seen:
            seen.add(flow)
            batch = max(costs)
            where = device(line.record.environment)
            yield Speed(flow, f"{line.model} on {table.name}", "substitution", batch, *costs[batch], None, where)
