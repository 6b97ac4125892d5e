"""``flowbench cache``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowbench.cli import complete
from flowbench.cli.options import Json
from flowbench.console import confirmed, note, plural, print_json, print_result, show_error
from flowbench.errors import FlowbenchError, UsageError

if TYPE_CHECKING:
    from flowbench.data.inventory import Kept


def cache(
    action: Annotated[
        Literal["clear"] | None, typer.Argument(help="clear: remove what is named.", show_default="list")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to clear: datasets, tables, fingerprints as listed, kernels, temporary.",
            metavar="NAME",
            autocompletion=complete.datasets,
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Clear everything but downloaded files.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="DAYS", help="Clear only what was not used for so many days."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Clear downloaded files, too, and those that were put beside them by hand.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Clear without asking.")] = False,
    as_json: Json = False,
) -> None:
    """List what is prepared, downloaded and compiled on this machine, the largest first; or clear some of it."""
    from flowbench.data import inventory
    from flowbench.report import stock

    if action is None:
        if all_ or older_than is not None or raw or yes:
            raise UsageError("--all, --older-than, --raw and --yes go with `flowbench cache clear`")
        there = inventory.everything()
        if as_json:
            print_json(stock.document(there))
        else:
            print_result(stock.render(there))
        return
    if bool(names) == all_ and (names or older_than is None):
        raise UsageError(
            "what is to be cleared?", "name it, or give --all; --older-than DAYS stands alone or with names"
        )
    found = inventory.chosen(inventory.everything(), names or (), older_than, downloaded=raw)
    if found and not (yes or _agreed(found)):
        note("nothing was removed")
        found = []
    _remove(found, as_json)


def _agreed(found: Sequence[Kept]) -> bool:
    """What a user says who is asked.

    Raises:
        UsageError: there is nobody to be asked.
    """
    from rich.filesize import decimal

    from flowbench.report import stock

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nothing is removed without asking, and this is no terminal", "--yes removes it")
    for each in found:
        note(stock.line(each))
    return confirmed(f"remove {plural(len(found), 'entry')} ({decimal(stock.total(found))})?")


def _remove(found: Sequence[Kept], as_json: bool) -> None:
    """Remove all that can be, say what that was, and only then raise what was refused."""
    from rich.filesize import decimal

    from flowbench.data import inventory
    from flowbench.report import stock

    removed: list[Kept] = []
    errors: list[FlowbenchError] = []
    for each in found:
        try:
            removed += [each] if inventory.remove(each) else []
        except FlowbenchError as error:
            errors.append(error)
    if as_json:
        print_json({"removed": stock.document(removed)["entries"], "freed_bytes": stock.total(removed)})
    else:
        print_result(f"{decimal(stock.total(removed))} freed: {plural(len(removed), 'entry')} removed")
    for refused in errors[:-1]:
        show_error(refused)
    if errors:
        raise errors[-1]
