"""Is what was timed in pairs slower than it was? A verdict on each line, at a level that holds for all. No torch.

With ρ the true ratio of a cost now to before, and M the slow-down that is tolerated, a line is

* ``worse`` where it is not by chance that the measured ratio is above M: were ρ ≤ M everywhere, the chance of even one
  such verdict among all lines is at most 5% (Holm 1979);
* ``better`` where the same is true of ρ ≥ 1/M and a ratio below it;
* ``same`` where it is neither, and ρ ≥ M is ruled out (95%, one-sided, each line by itself);
* ``undecided`` otherwise, and then more pairs are taken.

Each chance is multiplied by the number of looks that are taken at the pairs (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flowbench.results.costs import Pair
from flowbench.results.inference import Ratio, holm

LOOKS = (7, 14, 28)
"""Pairs after which a verdict is looked for."""

LEVEL = 0.05

POWER = math.sqrt(0.95)
"""How often the first pairs, and again the second, find the smallest slow-down that is said to be found."""

Verdict = Literal["worse", "better", "same", "undecided"]


@dataclass(frozen=True)
class Judgement:
    """A verdict, the ratio that it is of, and the smallest true ratio that would have been found."""

    verdict: Verdict
    ratio: Ratio
    least_found: float | None


def judge(lines: Sequence[Sequence[Pair]], most: float) -> list[Judgement]:
    """A verdict on each line of pairs, in their order; ``most`` is the ratio that is tolerated."""
    ratios = [Ratio([pair.ratio for pair in pairs]) for pairs in lines]
    slower = holm([ratio.p_below(most) for ratio in ratios])
    faster = holm([ratio.p_above(1 / most) for ratio in ratios])
    level = LEVEL / len(LOOKS)
    found = []
    for ratio, p_slower, p_faster in zip(ratios, slower, faster, strict=True):
        verdict: Verdict = "same" if ratio.p_above(most) <= level else "undecided"
        if p_slower <= level:
            verdict = "worse"
        elif p_faster <= level:
            verdict = "better"
        found.append(Judgement(verdict, ratio, ratio.least_found(most, level / len(ratios), POWER)))
    return found
