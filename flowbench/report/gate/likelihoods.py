"""Has a likelihood got worse? Runs held against a baseline's, line by line, with a level that holds for all of them.

With Δ the mean test log-likelihood of a line's new runs minus that of its baseline, and M the margin, the line is

* ``worse`` where Δ < −M, and it is not by chance that Δ < 0: where nothing has changed, the chance of even one such
  verdict among all lines is nominally `LEVEL` (Holm 1979). A lone new seed is doubted: it may have got stuck;
* ``better`` where the same is true of a gain;
* ``same`` where it is neither, and a loss of more than M is ruled out (95%, one-sided, each line by itself), or where
  every new run has the bits of the baseline's run of its seed;
* ``undecided`` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flowbench.report.gate.findings import Finding, Measured, Verdict
from flowbench.report.gate.lines import Line
from flowbench.report.layout import given_groups
from flowbench.report.runs import Run, reason
from flowbench.results.documents import UnreadableRecordError
from flowbench.results.inference import Difference, Lls, difference, holm, unpaired_difference
from flowbench.results.record import Trained
from flowbench.results.store import read_test_lls

LEVEL = 0.01
"""The chance of a false ``worse`` in a whole table, were the means of seeds normally distributed.

They have longer tails: what is 1% by Student's distribution was up to 5% of tables (``results/ci/calibration.py``).
"""

HIDDEN = 0.05
"""The chance that a line which is the ``same`` hides a loss beyond the margin."""

POWER = 0.95
"""How often the smallest loss that is said to be found is found."""

MAX_NATS = 0.02
"""The margin, unless another is given: losses below it are no cause to look."""


@dataclass(frozen=True)
class _Comparison:
    """A line's means, and their difference as measured and with a lone seed doubted; ``paired`` by rows or not."""

    line: Line
    baseline: float
    new: float
    difference: Difference
    doubted: Difference
    paired: bool


def findings(lines: Sequence[Line], max_nats: float = MAX_NATS) -> list[Finding]:
    """A verdict on each line, in their order."""
    compared = [_compare(line) for line in lines]
    doubted = [found.doubted for found in compared if isinstance(found, _Comparison)]
    lost = iter(holm([found.p_above(0.0) for found in doubted]))
    gained = iter(holm([found.p_below(0.0) for found in doubted]))
    return [
        _judge(found, max_nats, float(next(lost)), float(next(gained)), len(doubted))
        if isinstance(found, _Comparison)
        else found
        for found in compared
    ]


def _compare(line: Line) -> _Comparison | Finding:
    """The difference of a line, or what is to be said where there is none."""
    broken = line.broken
    if broken is not None and broken.status != "ok":
        return Finding(line.what, broken.status, notes=(f"seed {broken.setup.seed}: {reason(broken)}",))
    if line.problem is not None:
        return Finding(line.what, line.problem[0], notes=(line.problem[1],))
    try:
        new, baseline = rows_of(line.new), rows_of(line.baseline)
    except UnreadableRecordError as error:
        return Finding(line.what, "damaged", notes=(str(error),))
    if new and baseline:
        before, now = float(np.mean(baseline)), float(np.mean(new))
        if _has_the_same_bits(line, new, baseline):
            return _Comparison(line, now, now, _IDENTICAL, _IDENTICAL, paired=True)
        doubted = difference(new, baseline)
        return _Comparison(line, before, now, doubted.as_measured, doubted, paired=True)
    sides = _estimates(line.new), _estimates(line.baseline)
    if not all(sides):
        return Finding(line.what, "incomparable", notes=("a run has no test log-likelihood",))
    unpaired = unpaired_difference(*sides, line.record.task.n_test)
    now, before = (float(np.mean([mean for mean, _ in side])) for side in sides)
    return _Comparison(line, before, now, unpaired, unpaired, paired=False)


def _estimates(runs: Sequence[Run[Trained]]) -> list[tuple[float, float]]:
    """The mean of each run and its standard error over rows; none where a run has no mean."""
    found = [run.record.measured for run in runs]
    known = [(each.mean, each.stderr) for each in found if each is not None and each.mean is not None]
    return [(mean, math.nan if stderr is None else stderr) for mean, stderr in known] if len(known) == len(runs) else []


_IDENTICAL = Difference(0.0, 0.0, math.inf, None, 0)


def _has_the_same_bits(line: Line, new: Sequence[Lls], baseline: Sequence[Lls]) -> bool:
    """Whether each new run has the rows of the baseline's run of the same seed."""
    before = {run.record.setup.seed: lls for run, lls in zip(line.baseline, baseline, strict=True)}
    seeds = [run.record.setup.seed for run in line.new]
    return all(seed in before and np.array_equal(before[seed], lls) for seed, lls in zip(seeds, new, strict=True))


def rows_of(runs: Sequence[Run[Trained]]) -> list[Lls]:
    """The rows' likelihoods (N,) of each run; none where one has no file of them.

    Raises:
        UnreadableRecordError: a file is damaged.
    """
    found = []
    for run in runs:
        lls = read_test_lls(run.record, run.path.parent)
        if lls is None:
            return []
        found.append(lls)
    return found


def _judge(found: _Comparison, max_nats: float, p_lost: float, p_gained: float, lines: int) -> Finding:
    """The verdict, from the adjusted chances that there is no loss and no gain."""
    delta = found.difference
    ruled_out = delta is _IDENTICAL or delta.p_below(-max_nats) <= HIDDEN
    verdict: Verdict = "same" if ruled_out else "undecided"
    if delta.mean < -max_nats and p_lost <= LEVEL:
        verdict = "worse"
    elif delta.mean > max_nats and p_gained <= LEVEL:
        verdict = "better"
    half = _finite(delta.quantile(0.975))
    measured = Measured(
        "nats",
        found.baseline,
        found.new,
        change=delta.mean,
        low=None if half is None else delta.mean - half,
        high=None if half is None else delta.mean + half,
        least_found=_least_found(found.doubted, max_nats, lines),
    )
    return Finding(found.line.what, verdict, measured, tuple(_notes(found, verdict, max_nats)))


def _least_found(delta: Difference, max_nats: float, lines: int) -> float | None:
    """The smallest true loss that is called ``worse`` with `POWER`, even if no other line is."""
    beyond_chance = delta.quantile(1 - LEVEL / lines) + delta.quantile(POWER)
    return _finite(max(beyond_chance, max_nats + delta.quantile(POWER)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _notes(found: _Comparison, verdict: Verdict, max_nats: float) -> Iterator[str]:
    """What a reader should know of a line: where its error comes from, and what would decide it."""
    delta, line = found.difference, found.line
    yield _on_seeds(found)
    lone = min(len(line.baseline), len(line.new)) == 1
    if verdict == "undecided" and delta.seeds_dof and lone and delta.mean < -max_nats and delta.p_above(0.0) <= LEVEL:
        yield "it looks worse, but a lone seed may have got stuck: another one tells"
    if not found.paired:
        yield "rows are not paired: there is no file of them"
    if verdict == "undecided":
        least = delta.quantile(1 - HIDDEN)
        if not math.isfinite(least):
            yield "no loss of any size could have been seen"
        elif least > max_nats:
            yield (
                f"a loss of {max_nats:g} nats could not have been ruled out: that takes more seeds, more test rows "
                "or a wider margin"
            )
    if line.record.task.test_groups:
        yield f"rows are taken as independent: {given_groups(line.record.task.test_groups)}"
    yield from line.notes


def _on_seeds(found: _Comparison) -> str:
    """How what seeds do is known."""
    delta, line = found.difference, found.line
    if delta is _IDENTICAL:
        return "the same bits"
    if delta.seeds_dof:
        return f"seeds: {len(line.baseline)} before, {len(line.new)} now"
    how = "not measured, only bounded from the rows' differences" if delta.is_known else "not known"
    return f"one seed a side: what another would do is {how}"
