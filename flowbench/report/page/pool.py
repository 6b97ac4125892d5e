"""Lists that several pictures of a page have, kept once: all runs on one data show the same rows. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from flowbench.console import one_line
from flowbench.report.figures.figure import Picture

SHORT = 4
"""Lists up to this length stay where they are."""


class Pool:
    """Values, each once, and the places that they were given."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[bytes, int] = {}

    def place(self, value: Any) -> int:
        """Where the value is."""
        key = to_json(value, inf_nan_mode="null")
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]

    def put(self, values: Sequence[Any]) -> Any:
        """A list, or where it is: a number."""
        return values if len(values) <= SHORT else self.place(values)

    def picture(self, found: Picture) -> dict[str, Any]:
        """A picture as the page has it."""
        return {
            "kind": found.kind,
            "title": one_line(found.title),
            "alt": found.alt,
            "spec": self.place(found.spec),
            "variants": {name: self.place(spec) for name, spec in found.variants.items()},
            "groups": [
                {"same": group.same, "columns": {name: self.put(values) for name, values in group.columns.items()}}
                for group in found.groups
            ],
            "notes": [one_line(note) for note in found.notes],
        }
