"""What the pictures of a dataset say, in words. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flowbench.console import one_line
from flowbench.report.figures.figure import Picture, Row
from flowbench.report.figures.frontier import COSTS
from flowbench.report.layout import duration, significant
from flowbench.report.ranking.tables import Table

MOST_SAID = 4
"""Flows of a frontier that are named: the cheapest, and the dearest which are the best."""


def words(table: Table, names: Sequence[str], frontier: Picture | None) -> dict[str, Any]:
    """Which flow to pick: the ``best`` one, and for each of the ``costs`` what is to be had for how much."""
    costs = _costs(frontier.rows) if frontier else ()
    return {"best": one_line(_best(table, names)), "costs": list(costs)}


def _best(table: Table, names: Sequence[str]) -> str:
    best = table.best
    if best is None or best.test_ll_nats is None:
        return "No run ended well."
    own = dict(zip(map(id, table.lines), (_without_place(name) for name in names), strict=True))
    tied = [own[id(line)] for line in table.lines if line.mark == "tied"]
    also = f"; tied with it: {', '.join(tied)}" if tied else ""
    nats = f"{best.test_ll_nats.mean:.2f} test nats"
    return f"Highest likelihood (chosen on validation rows): {own[id(best)]}, {nats}{also}."


def _without_place(name: str) -> str:
    return name.partition(" ")[2]


def _costs(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """For each cost and machine the flows that are worth it, from the cheapest to the best."""
    machines = list(dict.fromkeys(row["machine"] for row in rows if row["kind"] == "run"))
    for cost in COSTS:
        for machine in machines:
            on_it = [row for row in rows if row.get("frontier") and row["cost"] == cost and row["machine"] == machine]
            if any(not row["far"] for row in on_it):
                yield {"cost": cost, "machine": one_line(machine), "flows": _flows(on_it, cost)}


def _flows(on_it: Sequence[Row], cost: str) -> list[list[str]]:
    """Each with what it costs and its test nats."""
    rows = sorted(on_it, key=lambda row: row["value"])
    rows = rows if len(rows) <= MOST_SAID else [*rows[:1], *rows[1 - MOST_SAID :]]
    return [
        [one_line(_without_place(row["name"])), _cost(row["value"], cost), f"{row['nats']:.2f} nats"] for row in rows
    ]


def _cost(value: float, cost: str) -> str:
    return duration(value) if cost == COSTS[2] else f"{significant(value)} µs"
