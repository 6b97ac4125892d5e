"""What a run does, done once before its clock starts: kernels are compiled then, and its end is foreseen."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch

from flowbench.config import TrainingOptions
from flowbench.data.rows import Rows
from flowbench.training.clock import runner
from flowbench.training.objective import ROWS, Objective
from flowbench.training.step import Descent

SLACK = 1.1
"""What is foreseen of the closing is multiplied by it: machines are noisy, and to end early costs less than late."""


class Rehearsal:
    """A run's pieces, each done twice by a copy of the model: the first time compiles, the second tells what it takes.

    Nothing of the model or of the random numbers is touched. ``spent`` are the seconds so far without compilation.
    """

    def __init__(self, objective: Objective) -> None:
        self._understudy = copy.deepcopy(objective)
        self._began = time.perf_counter()
        self._compiling = 0.0

    @property
    def spent(self) -> float:
        """Seconds, compilation left out."""
        return time.perf_counter() - self._began - self._compiling

    def training(self, rows: Rows, validation: Rows, options: TrainingOptions, batch: slice) -> float:
        """Take a step, calibrate and validate; the seconds that an evaluation of all rows takes."""
        objective = self._understudy
        objective.model.train()
        descent = Descent(objective.model, options)
        with torch.random.fork_rng(devices=[rows.device] if rows.device.type == "cuda" else []):  # of dropout
            self.seconds_of(lambda: descent.step(rows[batch], options.learning_rate))
        objective.model.eval()
        return sum(
            self.seconds_of(lambda: evaluate(part[:ROWS])) * max(1.0, len(part) / ROWS)  # noqa: B023  # now
            for part, evaluate in ((rows, objective.settle), (validation, objective.value))
        )

    def closing(self, test: Rows) -> float:
        """The seconds that what comes once training has ended will take."""
        self._understudy.model.eval()
        with torch.random.fork_rng(devices=[test.device] if test.device.type == "cuda" else []):
            return SLACK * self._understudy.closing_seconds(test, self.seconds_of)

    def seconds_of(self, work: Callable[[], object]) -> float:
        """Of a second run, the device waited for."""
        once = runner(work)
        first, second = once(1), once(1)
        self._compiling += max(0.0, first - second)
        return second
