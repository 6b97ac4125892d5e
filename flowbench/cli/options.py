"""Options that several commands share."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flowbench.cli import complete
from flowbench.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The folder of results.", show_default="$FLOWBENCH_RESULTS_DIR or ./results"),
]
FolderOrOut = Annotated[Path | None, typer.Argument(help="The folder of results.", show_default="--out, or ./results")]
ResultsFolder = Annotated[
    Path | None,
    typer.Argument(help="The folder of results.", show_default="$FLOWBENCH_RESULTS_DIR or ./results"),
]
OnlyData = Annotated[
    str | None,
    typer.Option(help="Only runs on this dataset.", show_default="all", autocompletion=complete.datasets),
]
OnlyFlow = Annotated[
    str | None, typer.Option(help="Only runs of this flow.", show_default="all", autocompletion=complete.flows)
]
NoSketch = Annotated[
    bool,
    typer.Option("--no-sketch", help="Keep no rows, samples and histograms beside the record, for pictures."),
]
TensorBoard = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Write the run's curves for TensorBoard, too: to the folder tensorboard of the results. Needs the extra "
        "tensorboard.",
    ),
]
Device = Annotated[str, typer.Option(help="The device to compute on: auto, cpu, cuda, cuda:0, … or mps.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=4096, help="The number of CPU threads.", show_default="torch's own choice")
]
FewThreads = Annotated[
    int | None, typer.Option(min=1, max=4096, help="The number of CPU threads; steps are small.", show_default="1")
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
SET_HELP = "Change a setting, e.g. hidden=512,512. May be repeated."
SETTINGS = "Settings"
"""The panel of the help that has what changes a run's figures."""
SetSettings = Annotated[
    list[str] | None, typer.Option("--set", rich_help_panel=SETTINGS, metavar="KEY=VALUE", help=SET_HELP)
]
ConfigFile = Annotated[
    Path | None, typer.Option(rich_help_panel=SETTINGS, help="A TOML file of settings.", show_default=False)
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=SETTINGS,
        help="End the run this many seconds after its first step, closing checks and times included.",
        show_default=False,
    ),
]
ListSettings = Annotated[
    bool,
    typer.Option("--settings", rich_help_panel=SETTINGS, help="List all settings with their defaults, and exit."),
]
CheckpointEvery = Annotated[float | None, typer.Option(**CHECKPOINT_EVERY, rich_help_panel=SETTINGS)]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Train a finished run again, and go on with one that was broken off on another device, with other "
        "threads or by another version.",
    ),
]


def csv_names(text: str | None) -> tuple[str, ...]:
    """Names as a line of CSV has them: with commas between, and in quotation marks where they have commas.

    Raises:
        UsageError: it is none.
    """
    try:
        return tuple(next(csv.reader([text]), [])) if text else ()
    except csv.Error as error:
        raise UsageError(f"{text!r} is no line of names: {error}", 'put a name with a line break in "…"') from error


def file_to_write(out: Path, endings: Sequence[str]) -> Path:
    """The file that is named, with one of these endings, in a folder that takes it; where a link leads, not the link.

    Raises:
        UsageError: it names none, or cannot be written.
    """
    from flowbench.files import ensure_writable, expanded

    if not out.name:
        raise UsageError("--out names no file")
    if out.suffix.lower() not in endings:  # so that no record, and nothing else, is written over by a slip
        raise UsageError(f"{out} ends in none of {', '.join(endings)}")
    out = expanded(out)
    out = out.resolve() if out.is_symlink() else out
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} is there, and is no file")
    ensure_writable(out.parent)
    return out


def use_threads(threads: int | None) -> None:
    """Let torch compute with so many threads, if a number is given."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
