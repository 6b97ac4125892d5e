"""Columns of one table found in another: by name in any order, and by position where there are no names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from flowbench.console import note
from flowbench.errors import DataError

NAMED = 5
"""Columns that a message names."""


def numbers(count: int) -> tuple[str, ...]:
    """What columns without names are called: 0, 1, ..."""
    return tuple(str(i) for i in range(count))


def matched(
    where: Path | str, columns: Sequence[str], wanted: tuple[str, ...], known: Sequence[str] = ()
) -> tuple[str, ...]:
    """The ``wanted`` columns, which are all among a table's ``columns``; others are noted, but for ``known`` ones.

    Raises:
        DataError: one is missing; the hint says which of the others may be it.
    """
    others = [name for name in columns if name not in {*wanted, *known}]
    missing = [name for name in wanted if name not in set(columns)]
    if missing:
        raise DataError(f"{where} lacks {named(missing)}, which the flow is trained on", _renaming(missing, others))
    if others:
        note(f"{where}: left out {named(others)}, which the flow is not trained on")
    return wanted


def named(columns: Sequence[str]) -> str:
    """Columns in words, the first few by name."""
    more = f" and {len(columns) - NAMED:,} more" if len(columns) > NAMED else ""
    return f"{'column' if len(columns) == 1 else 'columns'} {', '.join(map(repr, columns[:NAMED]))}{more}"


def _renaming(missing: Sequence[str], others: Iterable[str]) -> str:
    plain = {other.casefold().strip(): other for other in others}
    near = {name: difflib.get_close_matches(name.casefold().strip(), plain, n=1) for name in missing[:NAMED]}
    found = [f"rename {plain[match[0]]!r} to {name!r}" for name, match in near.items() if match]
    return "; ".join(found) or f"it has {named(list(plain.values())) if plain else 'no others'}"
