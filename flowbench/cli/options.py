"""Options that several commands share."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flowbench.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The folder of results.", show_default="$FLOWBENCH_RESULTS_DIR or ./results"),
]
Device = Annotated[str, typer.Option(help="The device to compute on: auto, cpu, cuda, cuda:0, … or mps.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="The number of CPU threads.", show_default="torch's own choice")
]
CHECKPOINT_EVERY: dict[str, Any] = {
    "min": 0.0,
    "help": "Seconds between two checkpoints.",
    "show_default": "60, or more where one takes long",
}
GIVEN: dict[str, Any] = {
    "help": "The columns that are given and not modelled, which makes the density conditional on them: numbers, or "
    "text as classes. Of mnist and cifar10: label.",
    "show_default": False,
}
CLASSES: dict[str, Any] = {"help": "The given columns of numbers that are classes, too.", "show_default": False}
TEST_DATA: dict[str, Any] = {
    "help": "A table whose rows are all of the test split: none is drawn from --data. Columns are matched by name.",
    "show_default": False,
}
VALIDATION_DATA: dict[str, Any] = {
    "help": "As --test-data, for the validation split. With both, all rows of --data are trained on.",
    "show_default": False,
}
KIND_HELP = (
    "What a column is: continuous, whole (it gets noise as wide as its step), mixed (continuous but for a few values "
    "that many rows have) or category. `found` alone takes for the others what the table's profile finds. May be "
    "repeated."
)
BOUNDS_HELP = "The bounds of a column, e.g. price=0: or share=0:1. Nothing is drawn outside. May be repeated."
ALLOW_TIES: dict[str, Any] = {
    "help": "Columns with heavy ties that are learnt as they are, or all: their likelihood can grow without bound.",
    "show_default": False,
}
LIKELIHOOD_HELP = (
    "density: values in steps get noise, and have a density; mass: they have their probability (of flows of one "
    "autoregressive transform: made, made-mog, resmade-mog)."
)
SET_HELP = "Change a setting, e.g. hidden=512,512. May be repeated."


def csv_names(text: str | None) -> tuple[str, ...]:
    """Names as a line of CSV has them: with commas between, and in quotation marks where they have commas."""
    return tuple(next(csv.reader([text]), [])) if text else ()


def kinds_from(given: Sequence[str]) -> tuple[dict[str, str], bool]:
    """The kinds of columns, and whether those that are found are taken for the others.

    Raises:
        UsageError: one is not COLUMN=KIND.
    """
    pairs = [each for each in given if each != "found"]
    return dict(_pair("--kind", each, "COLUMN=KIND, or found") for each in pairs), len(pairs) < len(given)


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


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    column, mark, value = text.rpartition("=")
    if not mark or not column:
        raise UsageError(f"{option} {text!r} names no column", f"write {form}")
    return column, value


def use_threads(threads: int | None) -> None:
    """Let torch compute with so many threads, if a number is given."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
