"""``flowbench time --against``: this flowbench beside that of another interpreter, in turns, in fresh processes.

What differs from one process to the next (where memory lies, what else runs) is as large as what is looked for. So a
ratio is of two processes that are begun together and take turns, and chance is what varies between such pairs.

Other processes can only add to a time, and add to the longer turn more often: turns are short, and their faster half is
taken. With five busy processes on two cores a step's ratio to itself varied by 1.8% from pair to pair (one standard
deviation), that of medians by 5.9%. Each work is visited twice, so that it is spread over the life of a pair.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor

from flowbench.config import FlowOptions
from flowbench.results.costs import ComparedMemory, ComparedTime, CostComparison, Pair
from flowbench.results.record import model_name
from flowbench.results.slowdown import LOOKS, Verdict, judge
from flowbench.timing.sides import Side, SideProcess, Subject, both, greet
from flowbench.timing.worker_process import running
from flowbench.training.clock import Sample, WorkError, measure, repeated

Kept = Literal["pairs", "again"]

BLOCK_SECONDS = 1e-3
"""A turn: less than the system lets one process run before another."""

VISITS, ROUNDS = 2, 4
"""How often a pair comes to each work, and how many turns it then takes at the least."""


@dataclass(frozen=True)
class Plan:
    """What to compare and how long; ``on_run`` is told what is about to be run, ``on_pair`` what has been."""

    python: str
    batches: tuple[int, ...]
    seconds: float
    """For each work and side, over the first look's pairs; at the least."""
    max_slowdown: float
    on_run: Callable[[str], None] = lambda what: None
    on_pair: Callable[[str], None] = lambda what: None


def subjects(chosen: Mapping[str, FlowOptions], rows: Tensor, batches: Sequence[int]) -> list[Subject]:
    """Each flow at each batch of ``rows`` (N, D)."""
    dim, device, threads = rows.shape[1], str(rows.device), torch.get_num_threads()
    return [
        Subject(
            f"{model_name(name, options.model_dump())}, {dim} columns",
            name,
            options,
            repeated(rows, batch).cpu().numpy(),
            device,
            threads,
        )
        for name, options in chosen.items()
        for batch in batches
    ]


def compare(chosen: Mapping[str, FlowOptions], rows: Tensor, data: str, plan: Plan) -> Iterator[CostComparison]:
    """Hold this flowbench against the plan's: the record so far after each step, and the finished one in the end.

    Raises:
        UsageError: there is no flowbench that can be held against this one, or one that cannot build a flow.
    """
    began = time.perf_counter()
    sides = both(plan.python)
    compared = subjects(chosen, rows, plan.batches)
    lines: list[_Line] = []
    for subject in compared:
        if not any(line.subject.flow == subject.flow for line in lines):
            plan.on_run(f"{plan.python}: can it build {subject.title}?")
            (baseline, before), (new, now) = greet(sides, subject)
            lost = {work: "new: it cannot do this any more" for work in before if work not in now}
        lines += [_Line(subject, work, failure=lost.get(work)) for work in before]
    identity = f"{baseline} {new} {chosen} {data} {plan.batches} {datetime.now(UTC)}"
    record = CostComparison(
        run=f"against-{'-'.join(chosen)}-{data}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}",
        data=data,
        settings={name: options.model_dump() for name, options in chosen.items()},
        baseline=baseline,
        new=new,
        environment=new.environment,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=False,
    )
    memory: list[ComparedMemory] = []

    def so_far(finished: bool = False) -> CostComparison:
        found = {"times": [line.record for line in lines], "memory": memory, "finished": finished}
        return record.model_copy(update=found | {"total_seconds": time.perf_counter() - began})

    for subject in compared:
        works = [line.work for line in lines if line.subject is subject and line.failure is None]
        memory += _memory(subject, works, sides, plan, memory)
        yield so_far()
    for _ in _paired(lines, "pairs", sides, plan):
        yield so_far()
    for _ in _paired(_judged(lines, "pairs", "worse", plan.max_slowdown), "again", sides, plan):
        yield so_far()
    yield so_far(finished=True)


@dataclass
class _Line:
    """A work of a subject, and what its pairs have given so far."""

    subject: Subject
    work: str
    pairs: list[Pair] = field(default_factory=list)
    again: list[Pair] = field(default_factory=list)
    failure: str | None = None

    @property
    def record(self) -> ComparedTime:
        return ComparedTime(
            title=self.subject.title,
            work=cast("Any", self.work),
            batch=len(self.subject.rows),
            pairs=list(self.pairs),
            again=list(self.again),
            failure=self.failure,
        )


def _judged(lines: Sequence[_Line], kept: Kept, verdict: Verdict, most: float) -> list[_Line]:
    """Those of the lines that their pairs speak this verdict on."""
    sound = [line for line in lines if line.failure is None]
    found = judge([getattr(line, kept) for line in sound], most)
    return [line for line, judgement in zip(sound, found, strict=True) if judgement.verdict == verdict]


def _paired(lines: Sequence[_Line], kept: Kept, sides: Sequence[Side], plan: Plan) -> Iterator[None]:
    """Take pairs of all lines up to the first look, and of those that are undecided then up to the next."""
    still_open = lines
    for taken, look in pairwise((0, *LOOKS)):
        for number in range(taken, look):
            for subject in dict.fromkeys(line.subject for line in still_open):
                own = [line for line in still_open if line.subject is subject and line.failure is None]
                if own:
                    _take(own, kept, number, sides, plan)
                    yield
        still_open = _judged(lines, kept, "undecided", plan.max_slowdown)


def _take(lines: Sequence[_Line], kept: Kept, number: int, sides: Sequence[Side], plan: Plan) -> None:
    """One pair of processes, in which all lines take turns; which of them is the first alternates."""
    subject = lines[0].subject
    order = sides if number % 2 == 0 else [*reversed(sides)]
    name = f"{subject.title} @ {len(subject.rows)}, pair {number + 1}" + (", again" if kept == "again" else "")
    with ExitStack() as stack:
        processes = {side: stack.enter_context(running(side.process(subject))) for side in order}
        for process in processes.values():  # they start at the same time
            process.start()
        samples = {(line.work, side): Sample() for line in lines for side in sides}
        for _ in range(VISITS):
            for line in lines:
                plan.on_run(f"{name}: {line.work}")
                runners = {(line.work, side): partial(process.run, line.work) for side, process in processes.items()}
                found = measure(runners, plan.seconds / LOOKS[0] / VISITS, block_seconds=BLOCK_SECONDS, rounds=ROUNDS)
                for key, sample in found.items():
                    samples[key].add(sample)
    said = []
    for line in lines:
        own = {side: samples[line.work, side] for side in sides}
        line.failure = "; ".join(f"{side.name}: {own[side].failure}" for side in sides if own[side].failure) or None
        if line.failure is None:
            baseline_us, new_us = (own[side].faster_half(1e6) for side in sides)
            pair = Pair(baseline_us=baseline_us, new_us=new_us)
            getattr(line, kept).append(pair)
            said.append(f"{line.work} {pair.ratio:.3f}×")
    plan.on_pair(f"{name}: {', '.join(said) or 'failed'}")


def _memory(
    subject: Subject, works: Sequence[str], sides: Sequence[Side], plan: Plan, known: Sequence[ComparedMemory]
) -> list[ComparedMemory]:
    """The memory of each work, and once for a flow that of training; both sides at the same time, since nothing is
    timed."""
    batch = len(subject.rows)
    requests: list[dict[str, str]] = [{"what": "peak_bytes", "work": work} for work in works]
    if "step" in works and not any(line.title == subject.title for line in known):
        requests.insert(0, {"what": "training_bytes"})
    found = []
    with ExitStack() as stack:
        processes = {side: stack.enter_context(running(side.process(subject))) for side in sides}
        for process in processes.values():
            process.start()
        for request in requests:
            work = request.get("work", "training")
            plan.on_run(f"{subject.title}: memory of {work}" + (f" @ {batch}" if "work" in request else ""))
            bytes_of, failures = _asked(processes, request)
            line = ComparedMemory(
                title=subject.title,
                work=cast("Any", work),
                batch=batch if "work" in request else None,
                baseline_bytes=bytes_of[0],
                new_bytes=bytes_of[1],
                failure="; ".join(failures) or None,
            )
            if failures or None not in bytes_of:  # else this system does not tell
                found.append(line)
    return found


def _asked(
    processes: Mapping[Side, SideProcess], request: Mapping[str, str]
) -> tuple[tuple[int | None, int | None], list[str]]:
    """What the baseline and the new side answer, and which failed."""
    answers: dict[bool, int | None] = {True: None, False: None}
    failures = {}
    for what in ("send", "receive"):
        for side, process in processes.items():
            if side in failures:
                continue
            try:
                if what == "send":
                    process.send(**request)
                else:
                    answers[side.baseline] = process.receive()
            except WorkError as error:
                failures[side] = f"{side.name}: {error}"
    return (answers[True], answers[False]), list(failures.values())
