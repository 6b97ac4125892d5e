"""What a run does, done once before its clock starts: kernels are compiled then, and its end is foreseen."""

from __future__ import annotations

import copy

import torch

from flowbench.config import TrainingOptions
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.training.calibration import calibrate
from flowbench.training.checks import checks_seconds
from flowbench.training.clock import seconds_of, time_flow_seconds
from flowbench.training.step import Descent

ROWS = 2000
"""Rows of an evaluation's rehearsal."""

SLACK = 1.1
"""What is foreseen of the closing is multiplied by it: machines are noisy, and to end early costs less than late."""


def rehearse(flow: Flow, rows: Rows, validation: Rows, options: TrainingOptions, batch: slice) -> float:
    """Take a step, calibrate and validate with a copy of the flow; the seconds that all rows will take to evaluate.

    Compilation is no part of them. Nothing of the flow or of the random numbers is touched.
    """
    understudy = copy.deepcopy(flow)
    with torch.random.fork_rng(devices=[]):
        Descent(understudy.train(), options).step(rows[batch], options.learning_rate)
        understudy.eval()
        return sum(
            seconds_of(lambda: evaluate(understudy, part[:ROWS])) * max(1.0, len(part) / ROWS)  # noqa: B023  # at once
            for part, evaluate in ((rows, calibrate), (validation, log_likelihoods))
        )


def foresee_closing(flow: Flow, test: Rows) -> float:
    """The seconds that test rows, times and checks will take once training has ended; their kernels are compiled."""
    understudy = copy.deepcopy(flow).eval()
    with torch.random.fork_rng(devices=[]):
        test_rows = seconds_of(lambda: log_likelihoods(understudy, test[:ROWS])) * max(1.0, len(test) / ROWS)
        return SLACK * (test_rows + time_flow_seconds(understudy, test) + checks_seconds(understudy, test))
