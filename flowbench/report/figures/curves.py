"""Training curves: likelihoods of training and validation rows as a run went on. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from flowbench.report.figures.figure import Group, Picture, Row
from flowbench.report.figures.labels import colour, place
from flowbench.report.figures.style import DASHES
from flowbench.report.ranking.tables import Table
from flowbench.results.record import History, RunRecord

By = Literal["seconds", "epoch", "step"]

BY: dict[By, str] = {"seconds": "seconds of training", "epoch": "epoch", "step": "step"}

MOST_POINTS = 60
"""Of a curve; more are seen by nobody, and a thousand runs are one page."""

PARTS = ("validation", "training")


def curves(table: Table, names: Sequence[str]) -> Picture | None:
    """All runs of a table whose records have a history, by the names of its lines; None where none has."""
    groups = [
        group
        for line, name in zip(table.lines, names, strict=True)
        for run in line.ended
        for group in run_curve(run.record, name if len(line.ended) == 1 else f"{name}, seed {run.record.setup.seed}")
    ]
    if not groups:
        return None
    return Picture(
        "curves",
        f"Training on {table.name}",
        "Lines of mean log-likelihood in nats as training went on: of validation rows unbroken, of training rows "
        "dashed. A ring with the run's number marks the best epoch by validation, which a run keeps.",
        spec("seconds"),
        tuple(groups),
        (
            *_without(table),
            f"of a curve {MOST_POINTS} epochs at the most are drawn, among them the best one; what lies below all that "
            "was reached after a tenth of a training is cut off",
        ),
        {name: spec(each) for each, name in BY.items() if _is_known(groups, each)},
    )


def run_curve(record: RunRecord, name: str) -> list[Group]:
    """A run's curves, of training and of validation rows; none where the record has no history."""
    history, best = record.training.history, record.training.best_epoch
    if history is None or not history.validation_ll_nats:
        return []
    kept = _kept(history, best)
    steps = record.training.steps_per_epoch
    floor = _floor(history.validation_ll_nats, history.train_ll_nats)
    same: Row = {"run": record.run, "name": name, "place": place(name), "colour": colour(name), "floor": floor}
    columns: dict[str, Sequence[Any]] = {
        "epoch": [index + 1 for index in kept],
        "seconds": [_at(history.seconds, index) for index in kept],
        "step": [None if steps is None else steps * (index + 1) for index in kept],
        "best": [index + 1 == best for index in kept],
    }
    lls = {"validation": history.validation_ll_nats, "training": history.train_ll_nats}
    return [Group(same | {"part": part}, columns | {"nats": [_at(lls[part], i) for i in kept]}) for part in PARTS]


def _without(table: Table) -> list[str]:
    """What is said of lines that have no curve."""
    without = sum(not any(run.record.training.history for run in line.ended) for line in table.lines)
    return [f"{without} of {len(table.lines)} lines have no curve: their records do not have it"] if without else []


def _is_known(groups: Sequence[Group], by: By) -> bool:
    """Whether any curve can be drawn against it: older records do not say their steps."""
    return any(value is not None for group in groups for value in group.columns[by])


def _at(values: Sequence[float | None], index: int) -> float | None:
    """Rounded to what a picture shows; None where there is none."""
    value = values[index] if index < len(values) else None
    return None if value is None else float(f"{value:.6g}")


def _kept(history: History, best: int | None) -> list[int]:
    """The epochs that are drawn: the first, the last, the best, and others evenly between."""
    last = len(history.validation_ll_nats) - 1
    even = {round(last * i / (MOST_POINTS - 2)) for i in range(MOST_POINTS - 1)} if last else {0}
    return sorted(even | ({best - 1} if best and best - 1 <= last else set()))


def _floor(*parts: Sequence[float | None]) -> float | None:
    """A likelihood below which nothing is shown: how bad a flow is before it has learned anything would hide the rest.

    The lowest that any of the parts has been at after a tenth of the way.
    """
    late = [[nats for nats in part[len(part) // 10 :] if nats is not None] for part in parts]
    known = [nats for part in late for nats in part]
    if not known:
        return None
    low, high = min(known), max(known)
    return float(f"{low - 0.05 * (high - low):.6g}")


def spec(by: By) -> Row:
    """How curves are drawn, of whichever runs there are."""
    x = {"field": by, "type": "quantitative", "title": BY[by], "scale": {"zero": False}}
    y = {"field": "nats", "type": "quantitative", "title": "mean log-likelihood, nats", "scale": {"zero": False}}
    color = {"field": "name", "type": "nominal", "title": "run", "sort": None}
    tip = [{"field": name} for name in ("name", "part", "epoch", "seconds", "nats")]
    return {
        "transform": [
            {"joinaggregate": [{"op": "min", "field": "floor", "as": "lowest"}]},
            {"filter": f"isValid(datum.nats) && isValid(datum['{by}']) && datum.nats >= datum.lowest"},
        ],
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "mark": {"type": "line", "tooltip": True},
                "encoding": {
                    "color": color,
                    "strokeDash": {
                        "field": "part",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": list(PARTS), "range": [DASHES[0], DASHES[2]]},
                    },
                    "detail": {"field": "run"},
                    "tooltip": tip,
                },
            },
            {
                "transform": [{"filter": "datum.best && datum.part === 'validation'"}],
                "mark": {"type": "point", "filled": False, "strokeWidth": 1.5, "style": "line-point"},
                "encoding": {"color": color, "tooltip": tip},
            },
            {
                "transform": [{"filter": "datum.best && datum.part === 'validation'"}],
                "mark": {"type": "text", "baseline": "bottom", "dy": -6, "style": "line-place"},
                "encoding": {"text": {"field": "place"}},
            },
        ],
    }
