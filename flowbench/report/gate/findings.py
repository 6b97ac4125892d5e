"""What a gate finds: a verdict a line, and the exit code of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal[
    "better",
    "same",
    "worse",
    "undecided",
    "missing",
    "new",
    "diverged",
    "failed",
    "interrupted",
    "incomparable",
    "damaged",
]
"""What is said of a line.

``worse`` and ``better``: beyond the margin, and not by chance. ``same``: a loss beyond the margin is ruled out.
``undecided``: too little evidence for any of these. ``missing``: in the baseline alone; ``new``: not in it. The others
are runs that nothing can be said of, by what happened to them.
"""

PASSING: frozenset[Verdict] = frozenset({"better", "same", "new"})
COMPARED: frozenset[Verdict] = frozenset({"better", "same", "worse", "undecided"})
FAILING: frozenset[Verdict] = frozenset({"worse", "diverged", "failed"})

Unit = Literal["nats", "us", "bytes"]


@dataclass(frozen=True)
class Measured:
    """A figure before and now, in ``unit``, and how much it changed.

    ``change`` with its 95% interval from ``low`` to ``high`` is a difference in nats, above 0 a gain; of a cost it is
    the ratio of now to before, above 1 a loss. ``least_found`` is the smallest change for the worse that would have
    been called ``worse`` in 95 of 100 cases; None where no change of any size would have been.
    """

    unit: Unit
    baseline: float
    new: float
    change: float
    low: float | None
    high: float | None
    least_found: float | None


@dataclass(frozen=True)
class Finding:
    """One line: what it is about, the verdict, the figures where there are any, and what a reader should know."""

    what: str
    verdict: Verdict
    measured: Measured | None = None
    notes: tuple[str, ...] = ()


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where something is worse, diverged or failed; 3 where nothing was compared or a line is open; else 0."""
    verdicts = {finding.verdict for finding in findings}
    if verdicts & FAILING:
        return 1
    return 0 if verdicts <= PASSING and verdicts & COMPARED else 3


def counted(findings: Sequence[Finding]) -> str:
    """How often each verdict was given: ``1 worse, 17 same``."""
    verdicts = [finding.verdict for finding in findings]
    order = [*sorted(FAILING), *sorted(set(verdicts) - FAILING - PASSING), *sorted(PASSING)]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in order if verdict in verdicts) or "nothing"


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as strict JSON has them, the unit of a figure in its name."""
    lines = [
        {"what": finding.what, "verdict": finding.verdict, "notes": list(finding.notes)} | _figures(finding.measured)
        for finding in findings
    ]
    return {"kind": "gate", "schema_version": 1, "exit_code": exit_code(findings), "findings": lines}


def _figures(measured: Measured | None) -> dict[str, Any]:
    if measured is None:
        return {}
    figures = asdict(measured)
    unit = figures.pop("unit")
    before, now = figures.pop("baseline"), figures.pop("new")
    kind = "nats" if unit == "nats" else "ratio"
    changes = {f"{name}_{kind}": value for name, value in figures.items()}
    return {f"baseline_{unit}": before, f"new_{unit}": now} | changes
