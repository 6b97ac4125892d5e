"""What a flow learned beside what it was to learn, column by column and in pairs, of a run's sketch. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flowbench.console import one_line
from flowbench.report.figures.figure import Group, Picture, Row
from flowbench.report.figures.style import DASHES, DATA, SAMPLES
from flowbench.results.sketch import PIT_BINS, LogDensities, Marginal, Sketch

PARTS = ("test rows", "samples")

_HEADER = {"labelExpr": "split(datum.label, '\\n')"}
"""Of a panel: the column's name, and below it the distance. No name has a line break."""

MOST_PAIRED = 4
"""Columns of a matrix of pairs: sixteen panels."""


def marginals(sketch: Sketch, title: str, columns: Sequence[int] | None = None) -> list[Picture]:
    """Each column by itself, numbers in one picture and classes in another; those of ``columns``, where given."""
    chosen = [each for each in sketch.marginals if columns is None or each.column in columns]
    numbers = [each for each in chosen if each.labels is None]
    classes = [each for each in chosen if each.labels is not None]
    found = [("marginals", "Columns", "quantitative", numbers), ("classes", "Classes", "nominal", classes)]
    return [_marginals(sketch, kind, f"{what} of {title}", scale, own) for kind, what, scale, own in found if own]


def _marginals(sketch: Sketch, kind: str, title: str, scale: str, chosen: Sequence[Marginal]) -> Picture:
    numbers = scale == "quantitative"
    what = "largest difference of their distribution functions" if numbers else "half sum of all differences of shares"
    each = 1 / max(1, sketch.n_rows) + 1 / max(1, sketch.n_samples)
    limit = _limit(each, len(sketch.marginals)) if numbers else None
    names = _panels_of([_panel(sketch, found.column, found.distance, limit) for found in chosen])
    by_chance = max(_shares_by_chance(found.rows, each) for found in chosen) if limit is None else limit
    return Picture(
        kind,
        title,
        "A panel a column: the share of test rows in each bin as a filled step, of the flow's samples as a dashed "
        f"line. In its heading the {what}.",
        _steps("value", "value", scale, True),
        tuple(_marginal(found, name) for found, name in zip(chosen, names, strict=True)),
        _on_counts(sketch, numbers, by_chance),
    )


def _panel(sketch: Sketch, column: int, distance: float, limit: float | None) -> str:
    """A column's place, from 1, and its name where it has one; below it the distance, and whether it may be chance."""
    name = one_line(sketch.columns[column])
    name = name if name.isdigit() else f"{column + 1} · {name}"
    verdict = "" if limit is None else "\nmore than chance" if distance > limit else "\nmay be chance"
    return f"{name}\ndiffers by {distance:.3f}{verdict}"


def _limit(each: float, columns: int) -> float:
    """The largest distance that chance gives any of so many columns, 95 of 100 times (Kolmogorov, Bonferroni).

    ``each`` is the sum of 1/n over the samples that are compared.
    """
    return math.sqrt(-math.log(0.025 / max(1, columns)) / 2 * each)


def _panels_of(names: Sequence[str]) -> list[str]:
    """Names that are each another: a table may have two columns of one name."""
    return [name if names.count(name) == 1 else f"{place}. {name}" for place, name in enumerate(names)]


def _on_counts(sketch: Sketch, numbers: bool, by_chance: float) -> tuple[str, ...]:
    if not sketch.n_samples:
        return (f"{sketch.n_rows:,} test rows; no samples were kept",)
    counted = f"{sketch.n_rows:,} test rows and {sketch.n_samples:,} samples, values in {sketch.units}"
    if not numbers:
        return (f"{counted}; shares of so many differ by about {by_chance:.3f} by chance",)
    return (
        f"{counted}; distribution functions of so many differ by up to {by_chance:.3f} by chance (95% for all "
        "columns together; Kolmogorov and Smirnov)",
    )


def _shares_by_chance(counts: Sequence[int], each: float) -> float:
    """The expected half sum of differences, were both drawn with these shares: E|N(0, s)| is 0.8 s."""
    total = sum(counts) or 1
    return 0.4 * sum(math.sqrt(n / total * (1 - n / total) * each) for n in counts)


def _marginal(found: Marginal, panel: str) -> Group:
    values = _edges(found) if found.labels is None else found.labels
    return Group({"panel": panel, "distance": found.distance}, {"value": values, **_shares(found)})


def _shares(found: Marginal | LogDensities) -> dict[str, list[float]]:
    """Of all that was counted; the first and the last bin of numbers have what lies beyond."""
    parts = {"rows": found.rows, "samples": found.samples}
    return {name: [round(n / (sum(part) or 1), 5) for n in part] for name, part in parts.items()}


def _edges(found: Marginal | LogDensities) -> list[float]:
    """The lower edge of each bin; those outside are as wide as the others."""
    low, high = found.low or 0.0, found.high or 0.0
    width = (high - low) / max(1, len(found.rows) - 2)
    digits = max(0, 3 - math.floor(math.log10(width))) if width > 0 else 6  # of what tells two bins apart
    return [round(low + width * (i - 1), min(digits, 300)) for i in range(len(found.rows))]


def _steps(field: str, title: str, kind: str, panels: bool) -> Row:
    x: Row = {"field": field, "type": kind, "title": None if panels else title, "scale": {"zero": False}}
    x["axis"] = {"tickCount": 4, "labelOverlap": True}
    if kind == "nominal":
        x |= {"sort": None, "scale": {}, "axis": {"labelAngle": -40}}
    y = {"type": "quantitative", "title": None if panels else "share of rows", "axis": {"tickCount": 3}}
    step = {"interpolate": "step-after"} if kind == "quantitative" else {}
    legend = {"type": "nominal", "title": None, "scale": {"domain": list(PARTS), "range": [DATA, SAMPLES]}}
    dash = {"type": "nominal", "title": None, "scale": {"domain": list(PARTS), "range": [DASHES[0], DASHES[1]]}}
    layers: list[Row] = [
        {
            "mark": {"type": "area" if kind == "quantitative" else "bar", "opacity": 0.3, "tooltip": True, **step},
            "encoding": {"x": x, "y": {**y, "field": "rows"}, "color": {**legend, "datum": PARTS[0]}},
        },
        *(
            {
                "mark": {"type": "line", "tooltip": True, **step},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": field_of_part},
                    "color": {**legend, "datum": part},
                    "strokeDash": {**dash, "datum": part},
                },
            }
            for field_of_part, part in zip(("rows", "samples"), PARTS, strict=True)
        ),
    ]
    if not panels:
        return {"layer": layers}
    return {
        "facet": {"field": "panel", "type": "nominal", "title": None, "sort": None, "header": _HEADER},
        "columns": 4,
        "spec": {"layer": layers},
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
    }


def log_densities(sketch: Sketch, title: str) -> Picture | None:
    """The log-densities of test rows beside those of samples; None where they were not kept."""
    found = sketch.log_densities
    if found is None or not sum(found.rows):
        return None
    return Picture(
        "log-densities",
        f"Log-densities of {title}",
        "The share of test rows by their log-density as a filled step, of the flow's own samples as a dashed line. "
        "They are alike where the flow is right; rows far to the left surprise it.",
        _steps("nats", "log-density, nats", "quantitative", False),
        (Group({}, {"nats": _edges(found), **_shares(found)}),),
        ("the first and the last bin have what lies beyond",),
    )


def calibration(sketch: Sketch, title: str, columns: Sequence[int] | None = None) -> Picture | None:
    """Φ(u) of each column of noise, which is uniform where the density is right; None where there is no noise."""
    chosen = [each for each in sketch.calibration if columns is None or each.column in columns]
    if not chosen:
        return None
    whose = "" if sketch.exact else "noise "
    by_chance = _limit(1 / max(1, sketch.n_rows), len(sketch.calibration))
    panels = _panels_of([whose + _panel(sketch, each.column, each.distance, by_chance) for each in chosen])
    exact = (
        "column i is the conditional's own: Φ⁻¹ of F(x_i | the columns before it in the flow's order)"
        if sketch.exact
        else "this flow's columns of noise belong to no single column of the data, whose names they have by their "
        "places: what is wrong shows, but not where"
    )
    groups = [
        Group(
            {"panel": panel, "distance": each.distance, "mean": each.mean, "sd": each.sd},
            {
                "p": [i / PIT_BINS for i in range(len(each.counts))],
                "density": [round(n * len(each.counts) / (sum(each.counts) or 1), 4) for n in each.counts],
            },
        )
        for each, panel in zip(chosen, panels, strict=True)
    ]
    return Picture(
        "pit",
        f"Calibration of {title}",
        "A panel a column of noise: the histogram of its probability integral transform. Flat at 1 is right; a bulge "
        "in the middle: the density is too wide; raised ends: too narrow; a slope: beside the mark.",
        _pit_spec(),
        tuple(groups),
        (
            exact,
            f"{sketch.n_rows:,} test rows: up to {by_chance:.3f} may be chance (95% for all columns together)",
        ),
    )


def _pit_spec() -> Row:
    x = {"field": "p", "type": "quantitative", "title": None, "scale": {"domain": [0, 1]}, "axis": {"tickCount": 2}}
    y = {"field": "density", "type": "quantitative", "title": None, "axis": {"tickCount": 3}}
    bar: Row = {"type": "bar", "color": DATA, "opacity": 0.5, "align": "left", "tooltip": True}
    layers: list[Row] = [
        {
            "transform": [{"calculate": f"datum.p + {1 / PIT_BINS}", "as": "end"}],
            "mark": bar,
            "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "y2": {"datum": 0}},
        },
        {"mark": {"type": "rule", "strokeDash": [3, 3]}, "encoding": {"y": {"datum": 1}}},
    ]
    return {
        "facet": {"field": "panel", "type": "nominal", "title": None, "sort": None, "header": _HEADER},
        "columns": 4,
        "spec": {"layer": layers},
    }


def pairs(sketch: Sketch, title: str, columns: Sequence[int] | None = None) -> Picture | None:
    """Columns against each other: test rows below the diagonal's place, samples above. None where there are none."""
    shown = [place for place, column in enumerate(sketch.paired) if columns is None or column in columns]
    shown = shown[:MOST_PAIRED]
    if len(shown) < 2 or not sketch.rows:
        return None
    names = [one_line(sketch.columns[sketch.paired[place]]) for place in shown]
    parts = tuple(zip(PARTS, (sketch.rows, sketch.samples), strict=True))
    axes = [_axis(place, [row[place] for _, part in parts for row in part]) for place in shown]
    groups = [Group({"part": part}, {str(n): [row[n] for row in rows] for n in shown}) for part, rows in parts if rows]
    return Picture(
        "scatter",
        f"Pairs of columns of {title}",
        "A matrix of panels, column against column. Below the diagonal test rows as circles, above it the flow's "
        "samples as crosses: mirrored, they are alike where the flow is right.",
        {
            "hconcat": [_column(list(_panels(names, axes, x))) for x in range(len(shown))],
            "spacing": 6,
        },
        tuple(groups),
        (f"{len(sketch.rows)} test rows and {len(sketch.samples)} samples, values in {sketch.units}",),
    )


def _column(panels: list[Row]) -> Row:
    return {"vconcat": panels, "spacing": 6, "bounds": "flush"}


def _axis(place: int, values: Sequence[float | None]) -> Row:
    """As long as test rows and samples need it, so that both are seen alike."""
    known = [value for value in values if value is not None] or [0.0]
    scale = {"domain": [min(known), max(known)], "nice": False, "zero": False, "padding": 3}
    axis = {"tickCount": 3, "labelOverlap": True, "grid": False}
    return {"field": str(place), "type": "quantitative", "title": None, "scale": scale, "axis": axis}


def _panels(names: Sequence[str], axes: Sequence[Row], x: int) -> Iterator[Row]:
    """A column of the matrix, from above to below."""
    last = len(axes) - 1
    for y in range(len(axes)):
        if x == y:
            text = {"mark": {"type": "text", "style": "line-place"}, "encoding": {"text": {"value": names[x]}}}
            yield {"data": {"values": [{}]}, "view": {"stroke": None}, **text}
            continue
        part = PARTS[0] if y > x else PARTS[1]
        x_axis = axes[x] | {"axis": axes[x]["axis"] | {"labels": y == last - (x == last)}}  # at the edges alone
        y_axis = axes[y] | {"axis": axes[y]["axis"] | {"labels": x == (y == 0)}}
        mark: Row = {"type": "point", "style": "row-point", "opacity": 0.6}
        mark |= {"shape": "circle", "color": DATA} if y > x else {"shape": "cross", "color": SAMPLES}
        yield {
            "transform": [{"filter": {"field": "part", "equal": part}}],
            "mark": mark,
            "encoding": {"x": x_axis, "y": y_axis},
        }
