"""Which flow to pick: likelihood against what a density, a sample and the training cost. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flowbench.report.figures.figure import Picture, Row, grouped
from flowbench.report.figures.labels import colour, place
from flowbench.report.figures.style import FAINT, PALETTE
from flowbench.report.ranking.columns import device
from flowbench.report.ranking.lines import Line
from flowbench.report.ranking.tables import Table
from flowbench.results.published import Published

OTHERS = "others"

COSTS = ("density, µs a row", "sample, µs a row", "training, seconds")


def frontier(table: Table, names: Sequence[str]) -> Picture | None:
    """The lines of a table that ended well, with published densities as levels; None where nothing was timed.

    On the frontier of a cost is what no other line of the same machine beats in likelihood for as little.
    """
    points = [point for line, name in zip(table.lines, names, strict=True) for point in _of(line, name)]
    if not points:
        return None
    far = _far_below(points)
    for point in points:
        point["far"] = point["nats"] < far
    for cost in COSTS:
        _mark([point for point in points if point["cost"] == cost])
    _name_in_legend(points)
    machines = list(dict.fromkeys(point["machine"] for point in points))
    legend = list(dict.fromkeys(point["legend"] for point in points if not point["far"]))
    levels = list(_published(table, points))
    return Picture(
        "frontier",
        f"Likelihood on {table.name} against its cost",
        "Points: one a flow, the higher the more likely its test rows, the further left the cheaper. Lines join those "
        "that no other on the same machine beats at the cost." + " Levels: published likelihoods." * bool(levels),
        _spec(len(machines) > 1, legend, bool(levels)),
        tuple(grouped([*points, *levels], "kind", "machine")),
        (
            "costs are of the largest batch that was timed of each; frontiers are drawn within one machine",
            *(f"far below, and not drawn: {name}" for name in dict.fromkeys(_name(p) for p in points if p["far"])),
        ),
    )


def _name_in_legend(points: Sequence[Row]) -> None:
    """Name the first lines and those of a frontier, as far as there are colours; the others together."""
    first = list(dict.fromkeys(point["name"] for point in points))
    on_it = dict.fromkeys(point["name"] for point in points if point["frontier"])
    named = set(list(dict.fromkeys([*on_it, *first]))[: len(PALETTE) - (len(first) > len(PALETTE))])
    for point in points:
        point["legend"] = point["name"] if point["name"] in named else OTHERS
        point["place"] = place(point["name"]) if point["name"] in named else ""


def _name(point: Row) -> str:
    return f"{point['name']} ({point['nats']:.2f} nats)"


def _far_below(points: Sequence[Row]) -> float:
    """A likelihood below which lines would only hide what the others differ by: a Gaussian's, say.

    Of the lines from the highest on, two at least, it ends where the next is three times as far off as all these reach.
    """
    lines = {point["name"]: (point["nats"], point["low"], point["high"]) for point in points}
    ranked = sorted(lines.values(), reverse=True)
    for kept_lines in range(2, len(ranked)):
        kept = ranked[:kept_lines]
        reach = max(high for _, _, high in kept) - min(low for _, low, _ in kept)
        if min(nats for nats, *_ in kept) - ranked[kept_lines][2] > 3 * reach:
            return min(nats for nats, *_ in kept)
    return -math.inf


def _of(line: Line, name: str) -> Iterator[Row]:
    """A point for each cost that is known; none of a line that did not end well."""
    test = line.test_ll_nats
    if test is None:
        return
    costs, error = line.costs(), 2 * test.stderr if test.stderr is not None else 0.0
    batch = max(costs, default=0)
    figures = [*(costs[batch] if costs else (None, None)), line.train_seconds]
    about: Row = {"kind": "run", "machine": device(line.record.environment), "name": name, "run": line.record.run}
    about |= {"nats": test.mean, "low": test.mean - error, "high": test.mean + error}
    for cost, value in zip(COSTS, figures, strict=True):
        if value:
            yield about | {"cost": cost, "value": value, "batch": None if cost == COSTS[2] else batch}


def _mark(points: Sequence[Row]) -> None:
    """Say of each point whether it is on the frontier of its machine."""
    best: dict[str, float] = {}
    for point in sorted(points, key=lambda point: (point["value"], -point["nats"])):
        point["frontier"] = point["nats"] > best.get(point["machine"], float("-inf"))
        if point["frontier"]:
            best[point["machine"]] = point["nats"]


def _published(table: Table, points: Sequence[Row]) -> Iterator[Row]:
    """Exact densities that are near enough to the points to stand beside them; each a level in every panel."""
    if table.task.given:
        return
    drawn = [point["nats"] for point in points if not point["far"]]
    lowest, highest = min(drawn), max(drawn)
    room = max(highest - lowest, 1e-6)
    near = [
        entry
        for entry in table.published
        if entry.density == "exact" and lowest - room / 4 <= entry.test_ll_nats <= highest + room
    ]
    said: list[list[Published]] = []
    for entry in near:  # the highest first
        if not said or said[-1][0].test_ll_nats - entry.test_ll_nats > room / 9:
            said.append([])
        said[-1].append(entry)
    for together in said:
        label = together[0].model + ", …" * (len(together) > 1)
        for entry in together:
            about = {"kind": "published", "name": entry.model, "nats": entry.test_ll_nats}
            costs = dict.fromkeys(point["cost"] for point in points)
            first = entry is together[0]
            yield from (about | {"cost": c, "label": label if first and i == 0 else ""} for i, c in enumerate(costs))


def _spec(several: bool, legend: Sequence[str], has_levels: bool) -> Row:
    x = {"field": "value", "type": "quantitative", "scale": {"type": "log", "padding": 18}, "title": None}
    x["axis"] = {"tickCount": 4, "format": "~g", "labelOverlap": True}
    y = {"field": "nats", "type": "quantitative", "title": "test log-likelihood, nats", "scale": {"zero": False}}
    color: Row = {"field": "legend", "type": "nominal", "title": "flow", "sort": list(legend)}
    color["scale"] = {"domain": list(legend), "range": _colours(legend)}
    shape = (
        {"field": "machine", "type": "nominal", "title": "machine"}
        if several
        else {**color, "scale": {"domain": list(legend)}}
    )
    runs, levels = ({"filter": f"datum.kind === '{kind}'"} for kind in ("run", "published"))
    tip = [{"field": name} for name in ("name", "nats", "low", "high", "value", "batch", "machine")]
    beside = {"type": "text", "align": "left", "baseline": "bottom"}
    layers: list[Row] = [
        {
            "transform": [levels],
            "mark": {"type": "rule", "strokeDash": [2, 3], "tooltip": True},
            "encoding": {"y": y, "tooltip": [{"field": "name"}, {"field": "nats"}]},
        },
        {
            "transform": [levels],
            "mark": {**beside, "dx": 3, "dy": -1, "style": "published-level"},
            "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "label"}},
        },
        {
            "transform": [runs, {"filter": "datum.frontier && !datum.far"}],
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1, "color": "#8b949e"},
            "encoding": {"x": x, "y": y, "detail": {"field": "machine"}},
        },
        {
            "transform": [runs, {"filter": "!datum.far"}],
            "mark": {"type": "rule"},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
        },
        {
            "transform": [runs, {"filter": "!datum.far"}],
            "mark": {"type": "point", "style": "line-point"},
            "encoding": {"x": x, "y": y, "color": color, "shape": shape, "tooltip": tip},
        },
        {
            "transform": [runs, {"filter": "!datum.far"}],
            "mark": {**beside, "dx": 4, "dy": -2, "style": "line-place"},
            "encoding": {"x": x, "y": y, "text": {"field": "place"}},
        },
    ]
    return {
        "facet": {"field": "cost", "type": "nominal", "title": None, "sort": list(COSTS)},
        "columns": 3,
        "spec": {"layer": layers if has_levels else layers[2:]},
        "resolve": {"scale": {"x": "independent"}},
    }


def _colours(legend: Sequence[str]) -> list[str]:
    """Each line's own, the faintest for what is not named."""
    return [FAINT if name == OTHERS else colour(name) for name in legend]
