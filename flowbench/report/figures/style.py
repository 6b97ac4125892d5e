"""How all pictures look: colours, fonts and sizes, for a page in light and in dark, and for a paper. No torch."""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark", "paper"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#b8a800")
"""Told apart by all common kinds of colour vision (Okabe and Ito 2008), its black and yellow made grey and darker.

Meaning never hangs on them alone: shapes, dashes or words say it, too.
"""

FAINT = "#a8b0b8"
"""Of what is there, but not looked at."""

DATA, SAMPLES = PALETTE[0], PALETTE[1]
"""Of what was to be learned, and of what was learned."""

SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")

DASHES = ([1, 0], [5, 2], [2, 2], [7, 2, 2, 2])

INK: dict[Theme, tuple[str, str, str]] = {
    "light": ("#1b1f24", "#59636e", "#d8dee4"),
    "dark": ("#e6edf3", "#a5afba", "#3a424c"),
    "paper": ("#000000", "#333333", "#dddddd"),
}
"""Text, axes and grid; the first two have a contrast of at least 4.5 to the ground."""

POINTS_PER_INCH = 72
WIDTHS = {"one": 3.25 * POINTS_PER_INCH, "two": 6.75 * POINTS_PER_INCH}
"""Of one column of a paper, and of two, in points."""

FONTS: dict[Theme, str] = {
    "light": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
    "dark": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
    "paper": "Liberation Sans",
}
"""A paper's is Arial's twin, which vl-convert brings along and embeds."""


def config(theme: Theme, legend_columns: int = 0) -> dict[str, Any]:
    """Vega-Lite's configuration of a theme; legends have so many columns, 0 for as many as it takes."""
    ink, axis, grid = INK[theme]
    size = 8 if theme == "paper" else 12
    text = {"labelFont": FONTS[theme], "titleFont": FONTS[theme], "labelFontSize": size, "titleFontSize": size}
    text |= {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal"}
    return {
        "background": "white" if theme == "paper" else "transparent",
        "font": FONTS[theme],
        "axis": {
            **text,
            "gridWidth": 0.5 if theme == "paper" else 1,
            "domainWidth": 0.7,
            "tickWidth": 0.7,
            "gridColor": grid,
            "domainColor": axis,
            "tickColor": axis,
            "labelLimit": 0,
            "titleLimit": 0,
        },
        "legend": {
            **text,
            "orient": "bottom",
            "direction": "horizontal",
            "columns": legend_columns,
            "labelLimit": 130 if theme == "paper" else 0,
            "symbolStrokeWidth": 1.5,
            "symbolSize": 30 if theme == "paper" else 90,
            "symbolBaseFillColor": "transparent",
            "symbolBaseStrokeColor": axis,
            "layout": {"bottom": {"anchor": "start", "direction": "vertical", "margin": 6}},
        },
        "header": {**text, "labelLimit": 0, "titleLimit": 0},
        "title": {"font": FONTS[theme], "fontSize": size + 1, "color": ink, "anchor": "start", "fontWeight": "normal"},
        "text": {"font": FONTS[theme], "color": ink},
        "view": {"stroke": grid},
        "style": _styles(theme, ink),
        "line": {"strokeWidth": 1 if theme == "paper" else 1.6},
        "rule": {"color": axis},
        "point": {"filled": True, "opacity": 1},
        "range": {"category": list(PALETTE), "symbol": list(SHAPES)},
    }


def _styles(theme: Theme, ink: str) -> dict[str, dict[str, Any]]:
    """Of marks by what they are: what Vega's configuration of their kind says would have the last word."""
    paper = theme == "paper"
    texts = {
        "published-level": 5.5 if paper else 10,
        "line-place": 7 if paper else 12,
        "matrix-cell": 6 if paper else 12,
    }
    points = {"line-point": 24 if paper else 60, "row-point": 4 if paper else 10}
    found = {name: {"fontSize": size, "fill": ink} for name, size in texts.items()}
    return found | {name: {"size": size} for name, size in points.items()}
