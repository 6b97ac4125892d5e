"""Has a likelihood got worse? Runs held against a baseline's, line by line, with a level that holds for all of them.

With Δ the mean test log-likelihood of a line's new runs minus that of its baseline, and M the margin, the line is

* ``worse`` where Δ < −M and it is not by chance that Δ < 0: where nothing has changed, the chance of even one such
  verdict among all lines is at most `LEVEL` (Holm 1979). A lone new seed is doubted: it may be the one that got stuck;
* ``better`` where the same is true of a gain;
* ``same`` where it is neither, and a loss of more than M is ruled out (95%, one-sided, each line by itself);
* ``undecided`` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flowbench.report.gate.findings import Finding, Measured, Verdict
from flowbench.report.gate.lines import Line
from flowbench.report.runs import Run
from flowbench.results.inference import Difference, Lls, difference, holm, unpaired_difference
from flowbench.results.record import Estimate, RunRecord
from flowbench.results.store import UnreadableRecordError, read_test_lls

LEVEL = 0.01
"""The chance of a false ``worse`` in a whole table, were the means of seeds normally distributed.

They have longer tails: 1% by Student's distribution is up to 5% of tables, measured (``results/ci/calibration.py``).
"""

HIDDEN = 0.05
"""The chance that a line which is the ``same`` hides a loss beyond the margin."""

POWER = 0.95
"""How often the smallest loss that is said to be found is found."""

MAX_NATS = 0.02
"""The margin, unless another is given: losses below it are no cause to look."""


@dataclass(frozen=True)
class _Comparison:
    """A line's difference as it is measured, and as it is with a lone seed doubted; ``paired`` over rows or not."""

    line: Line
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
    broken = next((run.record for run in line.new if run.record.status != "ok"), None)
    if broken is not None and broken.status != "ok":
        reason = (broken.error or "no reason was recorded").strip().partition("\n")[0]
        return Finding(line.what, broken.status, notes=(f"seed {broken.setup.seed}: {reason}",))
    if line.problem is not None:
        return Finding(line.what, line.problem[0], notes=(line.problem[1],))
    try:
        new, baseline = _rows(line.new), _rows(line.baseline)
    except UnreadableRecordError as error:
        return Finding(line.what, "damaged", notes=(str(error),))
    if new and baseline:
        return _Comparison(line, difference(new, baseline), difference(new, baseline, doubting=True), paired=True)
    of_new, of_baseline = ([_mean_and_stderr(run.record) for run in side] for side in (line.new, line.baseline))
    unpaired = unpaired_difference(of_new, of_baseline, line.record.task.n_test)
    return _Comparison(line, unpaired, unpaired, paired=False)


def _rows(runs: Sequence[Run]) -> list[Lls]:
    """The rows' likelihoods (N,) of each run; none where one has no file of them.

    Raises:
        UnreadableRecordError: a file is damaged, or is no match for its record.
    """
    found = []
    for run in runs:
        lls = read_test_lls(run.record, run.path.parent)
        if lls is None:
            return []
        if lls.shape != (run.record.task.n_test,):
            raise UnreadableRecordError(f"{run.path} counts {run.record.task.n_test:,} test rows, its file {lls.shape}")
        found.append(lls)
    return found


def _mean_and_stderr(record: RunRecord) -> tuple[float, float]:
    test = record.likelihoods.test_ll_nats or Estimate(mean=None)
    return math.nan if test.mean is None else test.mean, math.nan if test.stderr is None else test.stderr


def _judge(found: _Comparison, max_nats: float, p_lost: float, p_gained: float, lines: int) -> Finding:
    """The verdict, from the adjusted chances that there is no loss and no gain."""
    delta = found.difference
    ruled_out = delta.p_below(-max_nats) <= HIDDEN
    verdict: Verdict = "same" if ruled_out else "undecided"
    if delta.mean < -max_nats and p_lost <= LEVEL:
        verdict = "worse"
    elif delta.mean > max_nats and p_gained <= LEVEL:
        verdict = "better"
    half = _finite(delta.quantile(0.975))
    measured = Measured(
        "nats",
        baseline=_mean(found.line.baseline),
        new=_mean(found.line.new),
        change=delta.mean,
        low=None if half is None else delta.mean - half,
        high=None if half is None else delta.mean + half,
        least_found=_least_found(found.doubted, max_nats, lines),
    )
    return Finding(found.line.what, verdict, measured, tuple(_notes(found, verdict, max_nats)))


def _mean(runs: Sequence[Run]) -> float:
    return float(np.mean([_mean_and_stderr(run.record)[0] for run in runs]))


def _least_found(delta: Difference, max_nats: float, lines: int) -> float | None:
    """The smallest true loss that is called ``worse`` with `POWER`, even if no other line is."""
    beyond_chance = delta.quantile(1 - LEVEL / lines) + delta.quantile(POWER)
    return _finite(max(beyond_chance, max_nats + delta.quantile(POWER)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _notes(found: _Comparison, verdict: Verdict, max_nats: float) -> Iterator[str]:
    """What a reader should know of a line: where its error comes from, and what would decide it."""
    delta, line = found.difference, found.line
    if delta.seeds_dof:
        yield f"seeds: {len(line.baseline)} before, {len(line.new)} now"
    elif delta.seeds_bound is None:
        yield "one seed a side: what another would do is not known"
    elif delta.seeds_bound:
        yield "one seed a side: what another would do is not measured, only bounded from the rows' differences"
    if verdict == "undecided" and delta.seeds_dof and delta.mean < -max_nats and delta.p_above(0.0) <= LEVEL:
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
    if line.note:
        yield line.note
