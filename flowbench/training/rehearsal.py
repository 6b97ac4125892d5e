"""What a run does, done once before its clock starts: kernels are compiled then, and its end is foreseen."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch

from flowbench.config import TrainingOptions
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.flows.core.density import class_averaged, log_likelihoods
from flowbench.training.calibration import calibrate
from flowbench.training.checks import checks_seconds
from flowbench.training.clock import runner, time_flow_seconds
from flowbench.training.sketching import sketch_seconds
from flowbench.training.step import Descent

ROWS = 2000
"""Rows of an evaluation's rehearsal."""

SLACK = 1.1
"""What is foreseen of the closing is multiplied by it: machines are noisy, and to end early costs less than late."""


class Rehearsal:
    """A run's pieces, each done twice by a copy of the flow: the first time compiles, the second tells what it takes.

    Nothing of the flow or of the random numbers is touched. ``spent`` are the seconds so far without compilation.
    """

    def __init__(self, flow: Flow) -> None:
        self._understudy = copy.deepcopy(flow)
        self._began = time.perf_counter()
        self._compiling = 0.0

    @property
    def spent(self) -> float:
        """Seconds, compilation left out."""
        return time.perf_counter() - self._began - self._compiling

    def training(self, rows: Rows, validation: Rows, options: TrainingOptions, batch: slice) -> float:
        """Take a step, calibrate and validate; the seconds that an evaluation of all rows takes."""
        flow = self._understudy
        descent = Descent(flow.train(), options)
        with torch.random.fork_rng(devices=[rows.device] if rows.device.type == "cuda" else []):  # of dropout
            self.seconds_of(lambda: descent.step(rows[batch], options.learning_rate))
        flow.eval()
        return sum(
            self.seconds_of(lambda: evaluate(flow, part[:ROWS])) * max(1.0, len(part) / ROWS)  # noqa: B023  # now
            for part, evaluate in ((rows, calibrate), (validation, log_likelihoods))
        )

    def closing(self, test: Rows) -> float:
        """The seconds that test rows, times and checks will take once training has ended."""
        flow = self._understudy.eval()
        with torch.random.fork_rng(devices=[test.device] if test.device.type == "cuda" else []):
            evaluations = (log_likelihoods, class_averaged)
            test_rows = sum(self.seconds_of(lambda: evaluate(flow, test[:ROWS])) for evaluate in evaluations)  # noqa: B023
            test_rows *= max(1.0, len(test) / ROWS)
            times = time_flow_seconds(flow, test, self.seconds_of)
            sketched = sketch_seconds(flow, test, self.seconds_of)
            return SLACK * (test_rows + times + checks_seconds(flow, test, self.seconds_of) + sketched)

    def seconds_of(self, work: Callable[[], object]) -> float:
        """Of a second run, the device waited for."""
        once = runner(work)
        first, second = once(1), once(1)
        self._compiling += max(0.0, first - second)
        return second
