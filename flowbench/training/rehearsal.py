"""What training does, done once before its clock starts: kernels are compiled then, and evaluations foreseen."""

from __future__ import annotations

import copy
import time

import torch

from flowbench.config import TrainingOptions
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.training.calibration import calibrate
from flowbench.training.step import Descent

ROWS = 2000
"""Rows of an evaluation's rehearsal."""


def rehearse(flow: Flow, rows: Rows, validation: Rows, options: TrainingOptions, batch: slice) -> float:
    """Take a step, calibrate and validate with a copy of the flow; the seconds that all rows will take to evaluate.

    Compilation is no part of them. Nothing of the flow or of the random numbers is touched.
    """
    understudy = copy.deepcopy(flow)
    with torch.random.fork_rng(devices=[]):
        Descent(understudy.train(), options).step(rows[batch], options.learning_rate)
        understudy.eval()
        seconds = 0.0
        for part, evaluate in ((rows, calibrate), (validation, log_likelihoods)):
            few = part[:ROWS]
            evaluate(understudy, few)  # compiles
            began = time.perf_counter()
            evaluate(understudy, few)
            if few.is_cuda:
                torch.cuda.synchronize()
            seconds += (time.perf_counter() - began) * len(part) / len(few)
    return seconds
