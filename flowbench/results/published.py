"""The published numbers of ``published.toml``, one entry a model and dataset. Never imports torch."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal


@dataclass(frozen=True)
class Published:
    """One published test log-likelihood: mean nats and two standard errors over the test rows, in the data's space.

    ``flow`` and ``transforms`` say which flow of flowbench is the same model, ``conditional`` whether the density was
    given the class label (then it is no match for an unconditional one), ``source`` the paper.
    """

    data: str
    model: str
    flow: str | None
    transforms: int | None
    conditional: bool
    test_ll_nats: float
    two_stderr_nats: float | None
    bits_per_pixel: float | None
    source: str
    density: Literal["exact", "estimated"] = "exact"
    estimated_by: str | None = None
    secondhand: bool = False


@dataclass(frozen=True)
class Shape:
    """The data that the numbers hold for: its columns, its test rows; ``decimals`` is how they are printed.

    ``note`` is for whoever sets a run beside them.
    """

    dim: int
    n_test: int
    decimals: int
    note: str = ""


def published(data: str) -> list[Published]:
    """All entries for a dataset, conditional ones too, best first; none for data without published numbers."""
    found = [entry for entry in _entries() if entry.data == data]
    return sorted(found, key=lambda entry: (-entry.test_ll_nats, entry.model))


def published_shape(data: str) -> Shape | None:
    """The shape of the published data of that name; None where there is none."""
    shape = _document()["data"].get(data)
    return Shape(**shape) if shape else None


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files("flowbench.results").joinpath("published.toml").read_text(encoding="utf-8"))


@cache
def _entries() -> tuple[Published, ...]:
    return tuple(
        Published(
            data=data,
            model=model["label"],
            flow=model.get("flow"),
            transforms=model.get("transforms"),
            conditional=conditional,
            test_ll_nats=float(figures[0]),
            two_stderr_nats=float(figures[1]) if len(figures) > 1 else None,
            bits_per_pixel=None if conditional else model.get("bits_per_pixel", {}).get(data),
            source=_document()["sources"][model["source"]],
        )
        for model in _document()["model"]
        for conditional, table in ((False, "nats"), (True, "conditional_nats"))
        for data, figures in model.get(table, {}).items()
    )
