"""Have times and memory got worse? A comparison of two flowbenches, line by line. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flowbench.report.gate.findings import Finding, Measured, Verdict
from flowbench.results.costs import ComparedMemory, ComparedTime, CostComparison, Pair, Side
from flowbench.results.slowdown import Judgement, judge

SLACK_BYTES = {"run": 1 << 16, "training": 4 << 20}
"""A loss of memory that is never called one: what the interpreter itself takes and leaves. In a whole run of training
it is 512 bytes a step; a batch of 200 rows of one column has 800."""


def findings(record: CostComparison, max_slowdown: float, max_memory: float) -> list[Finding]:
    """A verdict on each line of times, then on each of memory; both limits are ratios of now to before."""
    return [*_times(record.times, max_slowdown), *(_memory(line, max_memory) for line in record.memory)]


def title(record: CostComparison) -> str:
    """What was held against what."""
    return f"{record.data}: {said(record.new)} against {said(record.baseline)}"


def said(side: Side) -> str:
    """A side as a person names it."""
    about = side.environment
    revision = about.git_revision or f"code {(about.code_digest or 'unknown')[:8]}"
    return f"flowbench {about.versions.get('flowbench', '')} ({revision}, torch {about.versions.get('torch', '')})"


def _times(lines: Sequence[ComparedTime], most: float) -> Iterator[Finding]:
    """Where a line looked slower, the pairs that were taken again decide: nothing has chosen them."""
    sound = [line for line in lines if line.failure is None and line.pairs]
    first = dict(zip(map(id, sound), judge([line.pairs for line in sound], most), strict=True))
    repeated = [line for line in sound if line.again]
    second = dict(zip(map(id, repeated), judge([line.again for line in repeated], most), strict=True))
    for line in lines:
        what = f"{line.title}: {line.work} @ {line.batch}"
        if line.failure is not None:
            yield _failed(what, line.failure)
        elif id(line) in second:
            looked = f"slower in the first {len(line.pairs)} pairs: {first[id(line)].ratio.value:.3f}×"
            yield Finding(what, *_verdict(second[id(line)], line.again), notes=(looked,))
        elif id(line) in first:
            verdict, measured = _verdict(first[id(line)], line.pairs)
            notes = ("looked slower, and was not run again",) if verdict == "worse" else ()
            yield Finding(what, "undecided" if verdict == "worse" else verdict, measured, notes)
        else:
            yield Finding(what, "undecided", notes=("not timed",))


def _verdict(found: Judgement, pairs: Sequence[Pair]) -> tuple[Verdict, Measured]:
    low, high = found.ratio.interval() or (None, None)
    before = float(np.median([pair.baseline_us for pair in pairs]))
    now = float(np.median([pair.new_us for pair in pairs]))
    return found.verdict, Measured("us", before, now, found.ratio.value, low, high, found.least_found)


def _failed(what: str, failure: str) -> Finding:
    """A figure that could not be had: where only the baseline has none, nothing is known to be worse."""
    alone = "baseline: " in failure and "new: " not in failure
    return Finding(what, "incomparable" if alone else "failed", notes=(failure,))


def _memory(line: ComparedMemory, most: float) -> Finding:
    """Memory is counted and not estimated: the ratio itself is held against the limit."""
    what = f"{line.title}: memory of " + ("training" if line.batch is None else f"{line.work} @ {line.batch}")
    before, now = line.baseline_bytes, line.new_bytes
    if line.failure is not None or before is None or now is None:
        return _failed(what, line.failure or "not counted")
    slack = SLACK_BYTES["run" if line.batch else "training"]
    verdict: Verdict = "same"
    if now > before * most and now - before > slack:
        verdict = "worse"
    elif before > now * most and before - now > slack:
        verdict = "better"
    least = max(most, 1 + slack / max(before, 1))
    return Finding(what, verdict, Measured("bytes", before, now, max(now, 1) / max(before, 1), None, None, least))
