"""How costs grow with the number of columns, in both directions. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flowbench.report.figures.figure import Picture, Row, grouped
from flowbench.report.ranking.columns import device
from flowbench.results.costs import TimeRecord


def scaling(records: Iterable[TimeRecord]) -> Picture | None:
    """What ``flowbench time --scaling`` measured, the last time of each flow on each machine; None where it did not."""
    latest = {row["series"]: rows for rows in map(list, _series(records)) for row in rows[:1]}
    if not latest:
        return None
    return Picture(
        "scaling",
        "Cost of a row as the columns grow",
        "Lines on logarithmic axes: microseconds a row against the number of columns D, widths fixed, densities "
        "unbroken and samples dashed; in the legend the exponent, the line's slope.",
        _spec(list(dict.fromkeys(row["name"] for rows in latest.values() for row in rows))),
        tuple(grouped((row for rows in latest.values() for row in rows), "series", "machine", "work", "flow")),
    )


def _series(records: Iterable[TimeRecord]) -> Iterator[list[Row]]:
    for record in sorted(records, key=lambda record: record.started_at):
        where = record.environment
        machine = device(where)
        for found in record.exponents:
            series = f"{found.flow} {found.work}, {machine}"
            about: Row = {"series": series, "flow": found.flow, "work": found.work, "machine": machine}
            about["name"] = f"{found.flow} {found.work}: D^{found.exponent:.2f}"
            yield [about | {"dim": d, "us": us} for d, us in zip(found.dims, found.us_per_row, strict=False)]


def _spec(names: Sequence[str]) -> Row:
    x = {"field": "dim", "type": "quantitative", "title": "columns D", "scale": {"type": "log"}}
    x["axis"] = {"format": "~g", "tickCount": 6}
    y = {"field": "us", "type": "quantitative", "title": "µs a row", "scale": {"type": "log"}, "axis": {"format": "~g"}}
    name = {"field": "name", "type": "nominal", "title": "flow", "scale": {"domain": list(names)}}
    dash = {"field": "work", "type": "nominal", "title": None, "legend": None}
    tip = [{"field": field} for field in ("name", "machine", "dim", "us")]
    return {
        "encoding": {"x": x, "y": y, "color": name, "detail": {"field": "series"}},
        "layer": [
            {"mark": {"type": "line"}, "encoding": {"strokeDash": dash}},
            {"mark": {"type": "point", "style": "line-point"}, "encoding": {"shape": name, "tooltip": tip}},
        ],
    }
