"""A table's columns and rows as the page's program takes them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flowbench.report.layout import Column

MOST_SHOWN = 9
"""Columns of a table that are shown until others are chosen."""


def cells(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns, and to what is known of each row (its ``kind``, say) its cells and figures."""
    shown = sorted(range(len(columns)), key=lambda index: columns[index].rank)[:MOST_SHOWN]
    return {
        "columns": [
            {
                "name": column.name or "mark",
                "right": column.right,
                "shown": index in shown,
                "figures": bool(column.values),
                "high": column.high,
            }
            for index, column in enumerate(columns)
        ],
        "rows": [
            row
            | {
                "cells": [column.cells[index].strip() for column in columns],
                "values": [_finite(column.values[index]) if column.values else None for column in columns],
            }
            for index, row in enumerate(rows)
        ],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
