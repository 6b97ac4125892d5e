"""What a claim is, and what records say of it. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from flowbench.report.layout import decimals
from flowbench.results.inference import Difference

Verdict = Literal["holds", "does not hold", "not measured"]


@dataclass(frozen=True)
class Finding:
    """A claim on one data: the figures in words and, by names with their units, as they are.

    Where it is not measured, ``said`` is what would measure it.
    """

    on: str
    verdict: Verdict
    said: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What is claimed, and where it was looked for."""

    said: str
    findings: tuple[Finding, ...]


def not_measured(how: str, on: str = "") -> Finding:
    """That nothing is known, and how it can be."""
    return Finding(on, "not measured", how)


def nats(found: Difference) -> str:
    """A difference ± 2 standard errors, in as many decimals as the error deserves."""
    places = decimals(2 * found.stderr) if found.stderr else 2
    return f"{found.mean:+.{places}f} ± {2 * found.stderr:.{places}f} nats"


def verdict(holds: bool) -> Verdict:
    """Of what is measured."""
    return "holds" if holds else "does not hold"
