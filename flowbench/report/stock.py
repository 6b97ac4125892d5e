"""What flowbench keeps on this machine, as a person reads it and as JSON. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table

from flowbench.console import plural
from flowbench.data.inventory import Kept
from flowbench.report.layout import plain


def document(kept: Sequence[Kept]) -> dict[str, Any]:
    """It as strict JSON has it; times are ISO 8601 in UTC."""
    return {"entries": [_one(each) for each in kept], "total_bytes": total(kept)}


def render(kept: Sequence[Kept]) -> RenderableType:
    """A line each, and what they take together."""
    if not kept:
        return plain("nothing is kept")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("size", "name", "kind", "rows × columns", "last used", "made", "fingerprint", "", "where"):
        right = name in ("size", "rows × columns")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "where", overflow="fold")
    for each in kept:
        shape = "" if each.rows is None else f"{each.rows:,} × {each.columns:,}"
        where = str(each.source or each.paths[0])
        cells = (decimal(each.n_bytes), each.name, each.kind, shape, _day(each.used), _day(each.made), each.digits)
        table.add_row(*map(plain, (*cells, each.state, where)))
    return Group(table, plain(f"{decimal(total(kept))} in {plural(len(kept), 'entry')}"))


def total(kept: Sequence[Kept]) -> int:
    """Bytes of all together."""
    return sum(each.n_bytes for each in kept)


def line(kept: Kept) -> str:
    """One of them in a line."""
    what = kept.name if kept.kind == kept.name else f"{kept.name}, {kept.kind}"
    return f"{what} ({decimal(kept.n_bytes)}): {', '.join(map(str, kept.paths))}"


def _one(kept: Kept) -> dict[str, Any]:
    return {
        "kind": kept.kind,
        "name": kept.name,
        "state": kept.state or "whole",
        "bytes": kept.n_bytes,
        "rows": kept.rows,
        "columns": kept.columns,
        "made": _stamp(kept.made),
        "last_used": _stamp(kept.used),
        "fingerprint": kept.fingerprint or None,
        "source": None if kept.source is None else str(kept.source),
        "paths": [str(path) for path in kept.paths],
    }


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
