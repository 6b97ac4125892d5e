"""Paired differences of all lines of a table, as a matrix. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from flowbench.report.figures.figure import Picture, Row, grouped
from flowbench.report.layout import decimals
from flowbench.report.ranking.lines import LEVEL
from flowbench.report.ranking.pairs import Pair, unpaired_matrix
from flowbench.report.ranking.pairs import matrix as pairs_of
from flowbench.report.ranking.tables import Table

MOST_DRAWN = 14
"""Lines that a matrix is drawn of; its numbers have all."""

LONGEST = 150
"""Pixels of a line's name beside the matrix; it begins with its place, and its numbers have it whole."""

MOST_ON_PAPER = {"one": 4, "two": 11}
"""As many as one or two columns of a paper have room for."""


def differences(table: Table, names: Sequence[str], most: int = MOST_DRAWN) -> Picture | None:
    """Row minus column, in nats, each with its own 95% interval; None where there are no two lines to hold together.

    Where the likelihoods of rows are not there, the differences of means are drawn, with their wider errors.
    """
    matrix = pairs_of(table)
    is_paired = bool(matrix.pairs)
    matrix = matrix if is_paired else unpaired_matrix(table)
    if not matrix.pairs:
        return None
    own = {id(line): name for line, name in zip(table.lines, names, strict=True)}
    names = [own[id(line)] for line in matrix.table.lines]
    rows = [row for pair in matrix.pairs for row in _both(pair, names)]
    return Picture(
        "pairs",
        f"{'Paired differences' if is_paired else 'Differences'} on {matrix.table.name}",
        "A matrix of differences of mean test log-likelihoods, row minus column, over the same test rows: above 0 the "
        "row's flow is better. A star and a filled cell: not by chance.",
        _spec(names[:most]),
        tuple(grouped(rows, "row")),
        (*([f"the first {most} of {len(names)} lines are drawn"] if len(names) > most else []), *matrix.notes),
    )


def _both(pair: Pair, names: Sequence[str]) -> list[Row]:
    """A pair as it is seen from both of its lines."""
    mean, half = pair.difference.mean, pair.half_width
    places = decimals(half) if half else 2
    about = {"p": pair.p, "certain": pair.p <= LEVEL}
    return [
        about
        | {"row": names[a], "column": names[b], "nats": nats, "low": nats - half, "high": nats + half}
        | {"said": f"{nats:+.{places}f}{'*' if pair.p <= LEVEL else ''}", "error": f"± {half:.{places}f}"}
        for a, b, nats in ((pair.row, pair.column, mean), (pair.column, pair.row, -mean))
    ]


def _spec(names: Sequence[str]) -> Row:
    axis = {"title": None, "labelLimit": LONGEST}
    y = {"field": "row", "type": "nominal", "sort": list(names), "axis": axis, "scale": {"domain": list(names)}}
    x = {**y, "field": "column", "axis": {**axis, "orient": "top", "labelAngle": -40}}
    sign = {"condition": {"test": "datum.certain && datum.nats > 0", "value": "#9fd3c0"}, "value": "#f3c7a5"}
    shown = {"and": [{"field": side, "oneOf": list(names)} for side in ("row", "column")]}
    return {
        "transform": [{"filter": shown}],
        "encoding": {"x": x, "y": y},
        "width": {"step": 72},
        "height": {"step": 34},
        "layer": [
            {
                "mark": {"type": "rect", "tooltip": True},
                "encoding": {
                    "color": sign,
                    "opacity": {"condition": {"test": "datum.certain", "value": 1}, "value": 0},
                    "tooltip": [{"field": name} for name in ("row", "column", "nats", "low", "high", "p")],
                },
            },
            {
                "mark": {"type": "text", "baseline": "bottom", "style": "matrix-cell"},
                "encoding": {"text": {"field": "said"}, "color": _ON_CELL},
            },
            {
                "mark": {"type": "text", "baseline": "top", "dy": 1, "style": "matrix-cell"},
                "encoding": {"text": {"field": "error"}, "color": _ON_CELL},
            },
        ],
    }


_ON_CELL = {"condition": {"test": "datum.certain", "value": "#1b1f24"}}
"""Dark on a filled cell, whatever the theme; elsewhere the theme's own."""
