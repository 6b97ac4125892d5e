"""The options that say what of a table is modelled, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from flowbench.cli.options import CLASSES, GIVEN, TEST_DATA, VALIDATION_DATA
from flowbench.errors import UsageError

_PANEL: dict[str, Any] = {"rich_help_panel": "Tables of your own"}

TestData = Annotated[str | None, typer.Option(**_PANEL, **TEST_DATA)]
ValidationData = Annotated[str | None, typer.Option(**_PANEL, **VALIDATION_DATA)]
Columns = Annotated[str | None, typer.Option(**_PANEL, help="The columns to model, e.g. a,b,c.", show_default="all")]
DropColumns = Annotated[str | None, typer.Option(**_PANEL, help="The columns to leave out.", show_default=False)]
Missing = Annotated[
    Literal["refuse", "drop", "indicator"],
    typer.Option(
        **_PANEL,
        help="What becomes of missing values: an error; their rows are left out; or that they are missing is a part of "
        "the density.",
    ),
]
DropNA = Annotated[bool, typer.Option("--dropna", **_PANEL, help="As --missing drop.")]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        **_PANEL,
        metavar="COLUMN=KIND",
        help="What a column is: continuous, whole (it gets noise as wide as its step), mixed (continuous but for a few "
        "values that many rows have) or category. `found` alone takes for the others what the table's profile finds. "
        "May be repeated.",
        show_default=False,
    ),
]
Bounds = Annotated[
    list[str] | None,
    typer.Option(
        **_PANEL,
        metavar="COLUMN=LOW:HIGH",
        help="The bounds of a column, e.g. price=0: or share=0:1. Nothing is drawn outside. May be repeated.",
        show_default=False,
    ),
]
ColumnTransform = Annotated[
    list[str] | None,
    typer.Option(
        **_PANEL,
        metavar="COLUMN=TRANSFORM",
        help="What brings in a column's heavy tails before it is standardised: log, of numbers above 0, or asinh. "
        "`found` alone takes what the table's profile proposes for the others. May be repeated.",
        show_default=False,
    ),
]
AllowTies = Annotated[
    str | None,
    typer.Option(
        **_PANEL,
        help="Columns with heavy ties that are learnt as they are, or all: their likelihood can grow without bound.",
        show_default=False,
    ),
]
Likelihood = Annotated[
    Literal["density", "mass"],
    typer.Option(
        **_PANEL,
        help="density: values in steps get noise, and have a density; mass: they have their probability (of flows of "
        "one autoregressive transform: made, made-mog, resmade-mog).",
    ),
]
Split = Annotated[
    str,
    typer.Option(
        **_PANEL,
        help="random; time: the last rows are the test split, and those before them the validation split; or a "
        "column's name: all rows with one value of it go to the same split, and it is not modelled.",
    ),
]
TestFraction = Annotated[
    float, typer.Option(**_PANEL, help="The share of the rows in the test split, and in the validation split too.")
]
Dequantise = Annotated[
    bool,
    typer.Option(
        "--dequantise", **_PANEL, help="Add uniform noise to columns of whole numbers and to columns with heavy ties."
    ),
]
GivenColumns = Annotated[str | None, typer.Option(**_PANEL, **GIVEN)]
Classes = Annotated[str | None, typer.Option(**_PANEL, **CLASSES)]


def kinds_from(given: Sequence[str]) -> tuple[dict[str, str], bool]:
    """The kinds of columns, and whether those that are found are taken for the others.

    Raises:
        UsageError: one is not COLUMN=KIND.
    """
    return _pairs("--kind", given, "COLUMN=KIND, or found")


def transforms_from(given: Sequence[str]) -> tuple[dict[str, str], bool]:
    """The transforms of columns, and whether those that are found are taken for the others.

    Raises:
        UsageError: one is not COLUMN=TRANSFORM.
    """
    return _pairs("--transform", given, "COLUMN=log, COLUMN=asinh, or found")


def bounds_from(given: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """The bounds of columns, None where there is none.

    Raises:
        UsageError: one is not COLUMN=LOW:HIGH.
    """
    found = {}
    for each in given:
        column, pair = _pair("--bounds", each, "COLUMN=LOW:HIGH, a side empty that has no bound")
        try:
            low, high = (float(side) if side.strip() else None for side in pair.split(":"))
        except ValueError as error:
            raise UsageError(
                f"--bounds {each!r} has no two numbers", "write COLUMN=LOW:HIGH, e.g. share=0:1"
            ) from error
        found[column] = low, high
    return found


def _pairs(option: str, given: Sequence[str], form: str) -> tuple[dict[str, str], bool]:
    pairs = [each for each in given if each != "found"]
    return dict(_pair(option, each, form) for each in pairs), len(pairs) < len(given)


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    column, mark, value = text.rpartition("=")
    if not mark or not column:
        raise UsageError(f"{option} {text!r} names no column", f"write {form}")
    return column, value
