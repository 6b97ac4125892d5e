"""What a picture is: numbers, and how Vega-Lite draws them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

Row = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Its name alone: nothing is ever fetched from there."""


@dataclass(frozen=True)
class Group:
    """Rows that have something in common: what is the ``same`` in all, and a list a column of what is not.

    A training's curve is one: it names its run once. Pages are a fifth as large for it.
    """

    same: Row
    columns: dict[str, Sequence[Any]]

    def rows(self) -> Iterator[Row]:
        """One mapping a row, as Vega-Lite takes them."""
        for values in zip(*self.columns.values(), strict=True):
            yield self.same | dict(zip(self.columns, values, strict=True))


def grouped(rows: Iterable[Row], *same: str) -> list[Group]:
    """The rows with equal values of ``same`` together, in the order of the first of each."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in same), []).append(row)
    return [_group(key, own, same) for key, own in found.items()]


def _group(key: Sequence[Any], rows: Sequence[Row], same: Sequence[str]) -> Group:
    names = dict.fromkeys(name for row in rows for name in row if name not in same)
    return Group(dict(zip(same, key, strict=True)), {name: [row.get(name) for row in rows] for name in names})


@dataclass(frozen=True)
class Picture:
    """A picture: ``title``, in words what is to be seen (``alt``), its numbers, and how they are drawn.

    ``spec`` is Vega-Lite's without data, whose name there is ``rows``; ``variants`` are others of the same numbers, by
    their names. ``notes`` are for who reads it.
    """

    kind: str
    title: str
    alt: str
    spec: Row
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    variants: dict[str, Row] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Its numbers, row by row."""
        return list(chain.from_iterable(group.rows() for group in self.groups))

    def drawn(self, config: Row, **changes: Any) -> Row:
        """The whole specification, with its numbers, as it is drawn in a style."""
        data = {"name": "rows", "values": self.rows}
        whole = {"$schema": SCHEMA, **self.spec, **changes, "data": data, "config": config}
        return whole | ({"layer": self._coloured(whole["layer"])} if "layer" in whole else {})

    def _coloured(self, layers: Sequence[Row]) -> list[Row]:
        """The layers, where groups have colours of their own in these."""
        own = {group.same["name"]: group.same["colour"] for group in self.groups if "colour" in group.same}
        scale = {"scale": {"domain": list(own), "range": list(own.values())}} if own else {}
        return [
            layer | {"encoding": layer["encoding"] | {"color": layer["encoding"]["color"] | scale}}
            if own and "color" in layer["encoding"]
            else layer
            for layer in layers
        ]
