"""A line of a ranking: one configuration with its seeds, and how far it is from the best. No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from flowbench.report.runs import Run, code, grouped, has_rows_of, test_lls
from flowbench.report.settings import differing
from flowbench.results.inference import Difference, Lls, difference, holm, unpaired_difference
from flowbench.results.record import Estimate, RunRecord, configuration
from flowbench.results.statistics import mean_and_stderr

LEVEL = 0.05
"""A line whose adjusted p-value is above it is tied with the best."""

NOT_CHOSEN: Final = "not chosen"
"""Marks a line that a sweep passed over on validation rows: its test rows are not to choose it after all."""

Mark = Literal["best", "tied", "not chosen", ""]


@dataclass(frozen=True)
class OverSeeds:
    """The mean over seeds of a figure, and two errors that are never mixed up, all in the figure's unit.

    ``stderr`` is what other test rows would have changed of this mean, ``stderr_by_group`` the same with photographs
    as the units. ``seeds_sd`` is the sample's standard deviation of the seeds' own figures, None of one seed.
    """

    mean: float
    stderr: float | None = None
    stderr_by_group: float | None = None
    seeds_sd: float | None = None


@dataclass(frozen=True)
class ToBest:
    """Mean test log-likelihood minus the best line's, in nats; ``difference`` is paired over the test rows.

    ``p`` is two-sided and adjusted by Holm over the table's lines that may be tied; None of one that was not chosen.
    Both are None where the likelihoods of the rows are not there: then nothing is known of the error.
    """

    mean: float
    difference: Difference | None = None
    p: float | None = None


@dataclass(frozen=True)
class Line:
    """One flow in one configuration, by one code on one machine; its runs are its seeds.

    Figures are of ``ended``, the seeds that ended ``ok``: others cannot be trusted. ``settings`` are those that differ
    between the lines of one flow.
    """

    runs: tuple[Run, ...]
    ended: tuple[Run, ...]
    model: str
    settings: dict[str, str] = field(default_factory=dict)
    validation_ll_nats: OverSeeds | None = None
    test_ll_nats: OverSeeds | None = None
    gaussian_test_ll_nats: OverSeeds | None = None
    bits_per_pixel: OverSeeds | None = None
    nats_below_truth: OverSeeds | None = None
    class_averaged_test_ll_nats: OverSeeds | None = None
    to_best: ToBest | None = None
    mark: Mark = ""

    @property
    def record(self) -> RunRecord:
        """Of one of its runs, for what they have in common."""
        return (self.ended or self.runs)[0].record

    @property
    def seeds(self) -> list[int]:
        """Of the runs that its figures are of, or of all where none ended well."""
        return [run.record.setup.seed for run in self.ended or self.runs]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What its figures should be doubted for, by one of its seeds or more: each once."""
        return tuple(dict.fromkeys(doubt for run in self.ended for doubt in run.record.doubts))

    @property
    def is_below_gaussian(self) -> bool:
        """Whether a Gaussian fitted to the same training rows is more likely on the same test rows."""
        test, gaussian = self.test_ll_nats, self.gaussian_test_ll_nats
        return test is not None and gaussian is not None and self._is_flow and test.mean < gaussian.mean

    @property
    def _is_flow(self) -> bool:
        return self.record.task.flow != "gaussian"

    @property
    def train_seconds(self) -> float | None:
        """The median over seeds."""
        return _median([run.record.training.train_seconds for run in self.ended])

    def costs(self) -> dict[int, tuple[float, float]]:
        """By batch, microseconds per row of a density and of a sample: medians over seeds."""
        if len(self.ended) == 1:
            timings = self.ended[0].record.timings
            return {each.batch: (each.density_us_per_row, each.sampling_us_per_row) for each in timings}
        found: dict[int, list[tuple[float, float]]] = {}
        for run in self.ended:
            for each in run.record.timings:
                found.setdefault(each.batch, []).append((each.density_us_per_row, each.sampling_us_per_row))
        sides = {batch: tuple(zip(*costs, strict=True)) for batch, costs in sorted(found.items())}
        return {batch: (statistics.median(side[0]), statistics.median(side[1])) for batch, side in sides.items()}


def mean(found: OverSeeds | None) -> float | None:
    """Of a figure that may not be there."""
    return None if found is None else found.mean


def lines(runs: Sequence[Run], passed_over: Collection[str] = ()) -> list[Line]:
    """The runs on one data, the seeds of a configuration in one line; none is held against another yet.

    Those of which every run is one of ``passed_over``, by name, are marked as not chosen.
    """
    groups = [part for group in grouped(runs, _key) for part in _each_seed_once(group)]
    settings = differing([group[0].record for group in groups])
    return [
        _line(group, own, NOT_CHOSEN if all(run.record.run in passed_over for run in group) else "")
        for group, own in zip(groups, settings, strict=True)
    ]


def _key(record: RunRecord) -> Hashable:
    where = record.environment
    machine = where.device, where.device_name, where.threads, where.dtype
    return record.task.flow, record.setup.recipe, configuration(record), code(record), machine


def _each_seed_once(group: tuple[Run, ...]) -> list[tuple[Run, ...]]:
    """The group in parts in which no seed comes twice: a flow from outside the package may have changed in between."""
    parts: list[dict[int, Run]] = []
    for run in group:
        seed = run.record.setup.seed
        part = next((part for part in parts if seed not in part), None)
        if part is None:
            parts.append(part := {})
        part[seed] = run
    return [tuple(part.values()) for part in parts]


def _line(runs: tuple[Run, ...], settings: dict[str, str], mark: Mark) -> Line:
    ended = tuple(run for run in runs if run.nats is not None)
    found = [run.record.likelihoods for run in ended]
    return Line(
        runs,
        ended,
        runs[0].record.model,
        settings,
        validation_ll_nats=_over_seeds([Estimate(mean=each.validation_ll_nats) for each in found]),
        test_ll_nats=_over_seeds([each.test_ll_nats for each in found]),
        gaussian_test_ll_nats=_over_seeds([each.gaussian_test_ll_nats for each in found]),
        bits_per_pixel=_over_seeds([each.bits_per_pixel for each in found]),
        nats_below_truth=_over_seeds([each.nats_below_truth for each in found]),
        class_averaged_test_ll_nats=_over_seeds([each.class_averaged_test_ll_nats for each in found]),
        mark=mark,
    )


def _over_seeds(found: Sequence[Estimate | None]) -> OverSeeds | None:
    """None unless every seed has the figure.

    The seeds share their test rows, so that the error of their mean is at the most the mean of their errors: this is
    what is taken where the rows themselves are not there.
    """
    there = [each for each in found if each is not None]
    means = [each.mean for each in there if each.mean is not None]
    if not means or len(means) < len(found):
        return None
    if len(means) == 1:
        return OverSeeds(means[0], there[0].stderr, there[0].stderr_by_group)
    mean, errors = math.fsum(means) / len(means), [each.stderr for each in there]
    sd = math.sqrt(math.fsum((each - mean) ** 2 for each in means) / (len(means) - 1))
    return OverSeeds(mean, _mean_of_all(errors), _mean_of_all([each.stderr_by_group for each in there]), sd)


def _mean_of_all(found: Sequence[float | None]) -> float | None:
    """None where one is missing."""
    known = [each for each in found if each is not None]
    return math.fsum(known) / len(known) if len(known) == len(found) else None


def _median(found: Sequence[float | None]) -> float | None:
    known = [each for each in found if each is not None]
    return statistics.median(known) if known else None


def held_against(found: Sequence[Line], best: Line) -> list[Line]:
    """The lines with their differences to the best of them, and the marks of the best and of those tied with it.

    Lines that were not chosen keep their mark: as they cannot be tied, the others are not adjusted for them.
    """
    its = rows_of(best)
    measured = [_measured(line, best, its) for line in found]
    rivals = [None if line.mark == NOT_CHOSEN else each for line, (_, each) in zip(found, measured, strict=True)]
    p_values = iter(holm([two_sided(each) for each in rivals if each is not None]).tolist())
    return [
        _marked(line, best, *one, None if rival is None else next(p_values))
        for line, one, rival in zip(found, measured, rivals, strict=True)
    ]


def rows_of(line: Line) -> list[Lls] | None:
    """The rows' likelihoods (N,) of each seed; of copies of its runs, so that ten thousand lines are not all kept."""
    return test_lls([replace(run) for run in line.ended])


def two_sided(found: Difference) -> float:
    """The chance of a mean this far from zero in either direction, were there no difference."""
    return min(1.0, 2 * min(found.p_above(0.0), found.p_below(0.0)))


def paired(a: list[Lls], b: list[Lls]) -> Difference:
    """The difference a − b with the errors that were measured: over test rows, and over seeds where there are several.

    Of single seeds there is only a bound on it, which is left aside, and the tables say so.
    """
    return replace(difference(a, b), seeds_bound=0.0)


def unpaired(first: Line, second: Line) -> Difference | None:
    """The difference of two lines' means by their own errors, as ``paired`` has it; None where one has none."""
    means, others = _estimates(first), _estimates(second)
    if not means or not others:
        return None
    return replace(unpaired_difference(means, others, first.record.task.n_test), seeds_bound=0.0)


def _estimates(line: Line) -> list[tuple[float, float]]:
    found = [run.record.likelihoods.test_ll_nats for run in line.ended]
    there = [(each.mean, each.stderr) for each in found if each and each.mean is not None and each.stderr is not None]
    return there if len(there) == len(found) else []


def _measured(line: Line, best: Line, its: list[Lls] | None) -> tuple[OverSeeds | None, Difference | None]:
    """What the rows' likelihoods say: the error of the mean over seeds, and the difference to the best."""
    test, is_paired = line.test_ll_nats, its is not None and line is not best
    own = rows_of(line) if is_paired or len(line.ended) > 1 else None
    if own is None or test is None:
        return test, None
    if len(own) > 1:
        test = replace(test, stderr=mean_and_stderr(np.mean(own, axis=0))[1])
    same_rows = has_rows_of(line.record, best.record)
    if not is_paired or its is None or own[0].shape != its[0].shape or not same_rows:
        return test, None
    return test, paired(own, its)


def _marked(line: Line, best: Line, test: OverSeeds | None, found: Difference | None, p: float | None) -> Line:
    if line is best:
        return replace(line, test_ll_nats=test, mark="best")
    if test is None or best.test_ll_nats is None:
        return line
    nats = test.mean - best.test_ll_nats.mean if found is None else found.mean
    mark: Mark = "tied" if p is not None and p > LEVEL else line.mark
    return replace(line, test_ll_nats=test, to_best=ToBest(nats, found, p), mark=mark)
