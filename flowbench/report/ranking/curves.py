"""How soon each line of a table reached what: validation likelihoods by the seconds of training. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowbench.errors import NothingToCompareError
from flowbench.report.layout import Column, Figure, aligned, duration
from flowbench.report.ranking.columns import columns, heading, spelt_out, validation_places
from flowbench.report.ranking.document import SCHEMA_VERSION
from flowbench.report.ranking.lines import Line, mean
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.ranking.tables import Table, notes_on_times
from flowbench.results.record import RunRecord

SECONDS = (10, 30, 100, 300)

NOT_YET = "–"


@dataclass(frozen=True)
class Curves:
    """Of ``table`` the lines with a history, and for each what it had reached within each of `SECONDS`, in nats."""

    table: Table
    reached: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...]


def curves(tables: Sequence[Table]) -> list[Curves]:
    """Those of each table that has any.

    Raises:
        NothingToCompareError: no record has a history of its training.
    """
    found = [each for each in map(_curves, tables) if each.reached]
    if not found:
        raise NothingToCompareError("no record has the history of a training", "train again: records have it now")
    return found


def reached(line: Line, seconds: float) -> float | None:
    """The best mean log-likelihood of the validation rows within so many seconds of training, in nats.

    The mean over seeds; None unless each of them had ended an epoch by then.
    """
    found = [_reached(run.record, seconds) for run in line.ended]
    there = [nats for nats in found if nats is not None]
    return math.fsum(there) / len(there) if there and len(there) == len(found) else None


def _reached(record: RunRecord, seconds: float) -> float | None:
    history = record.training.history
    if history is None:
        return None
    epochs = zip(history.validation_ll_nats, history.seconds, strict=False)
    return max((nats for nats, at in epochs if nats is not None and at is not None and at <= seconds), default=None)


def _curves(table: Table) -> Curves:
    lines = [line for line in table.lines if line.ended and all(run.record.training.history for run in line.ended)]
    without = len(table.lines) - len(lines)
    return Curves(
        replace(table, lines=tuple(lines), references=(), published=()),
        tuple(tuple(reached(line, seconds) for seconds in SECONDS) for line in lines),
        (
            f"{NOT_YET} no epoch had ended by then; best: of the whole training, which is what a run keeps",
            *([f"without a history of their training, and left out: {without}"] if without else []),
            *notes_on_times([run.record for line in lines for run in line.ended]),
        ),
    )


def curves_sheet(found: Curves) -> Sheet:
    """The lines in the table's order, ready to be written; the highest figure of each column is bold."""
    table, lines = found.table, found.table.lines
    model, *others = columns(table)
    kept = [mean(line.validation_ll_nats) for line in lines]
    by_time = list(zip(*found.reached, strict=True))
    places = validation_places(lines)
    all_columns = [
        model,
        *(column for column in others if column.folds),
        *(_column(f"{seconds} s", nats, places) for seconds, nats in zip(SECONDS, by_time, strict=True)),
        _column("best", kept, places),
        Column("train", tuple(duration(line.train_seconds) for line in lines), rank=12),
    ]
    title = f"{heading(table)}; of validation rows, the best within so many seconds of training"
    return sheet(title, all_columns, len(lines), {}, [f"* {note}" for note in found.notes])


def _column(header: str, nats: Sequence[float | None], places: int) -> Column:
    cells = aligned([Figure(each, None, places) for each in nats])
    highest = max((each for each in nats if each is not None), default=None)
    styles = tuple("bold" if each is not None and each == highest else "" for each in nats)
    return Column(header, tuple(cell or NOT_YET for cell in cells), rank=2, styles=styles)


def curves_document(found: Sequence[Curves]) -> dict[str, Any]:
    """The curves as strict JSON has them."""
    tables = [
        _about(each)
        | {
            "lines": [
                {
                    "model": line.model,
                    "mark": line.mark,
                    "settings": line.settings,
                    "seeds": line.seeds,
                    "reached": [
                        {"seconds": seconds, "validation_ll_nats": nats}
                        for seconds, nats in zip(SECONDS, row, strict=True)
                    ],
                    "validation_ll_nats": mean(line.validation_ll_nats),
                    "train_seconds": line.train_seconds,
                }
                for line, row in zip(each.table.lines, each.reached, strict=True)
            ],
            "notes": list(each.notes),
        }
        for each in found
    ]
    return {"kind": "curves", "schema_version": SCHEMA_VERSION, "tables": tables}


def curves_rows(found: Sequence[Curves]) -> list[dict[str, Any]]:
    """The curves as CSV has them: one row a line."""
    return [
        _about(each)
        | {
            "model": line.model,
            "flow": line.record.task.flow,
            "recipe": line.record.setup.recipe,
            "settings": spelt_out(line),
            "seeds": " ".join(map(str, line.seeds)),
            **{f"validation_ll_nats_within_{seconds}_s": nats for seconds, nats in zip(SECONDS, row, strict=True)},
            "validation_ll_nats": mean(line.validation_ll_nats),
            "train_seconds": line.train_seconds,
        }
        for each in found
        for line, row in zip(each.table.lines, each.reached, strict=True)
    ]


def _about(found: Curves) -> dict[str, Any]:
    task = found.table.task
    return {"data": task.data, "data_version": task.data_version, "data_fingerprint": task.data_fingerprint}
