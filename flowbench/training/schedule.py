"""How long a training goes on, in which batches and at which rates, and when it is saved."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from flowbench.config import TrainingOptions

SAVE_SECONDS, SAVING = 60.0, 1 / 200
"""Between two states that are saved, and the part of the time that this may take, where nothing else is wanted."""


class Clock:
    """Seconds of training, those before a break too, and whether they are used up.

    ``reserved`` are seconds that are needed once the last step is taken: they are part of ``max_seconds``.
    """

    def __init__(self, max_seconds: float | None, spent: float = 0.0, reserved: float = 0.0) -> None:
        self._began = time.perf_counter() - spent
        self._max_seconds = math.inf if max_seconds is None else max_seconds
        self.reserved = reserved

    def seconds(self) -> float:
        """Since training began."""
        return time.perf_counter() - self._began

    @property
    def limit(self) -> float:
        """The second after which no step is taken; infinite where time does not end training."""
        return max(0.0, self._max_seconds - self.reserved)

    def over(self) -> bool:
        """Whether no step is to be taken any more."""
        return self.seconds() >= self.limit


class Saves:
    """When a state is to be saved: every so many seconds; None: every minute, or less often where it takes long."""

    def __init__(self, every: float | None) -> None:
        self._every = every
        self._next = time.perf_counter() + (SAVE_SECONDS if every is None else every)

    def due(self) -> bool:
        """Whether one is to be saved now."""
        return time.perf_counter() > self._next

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """One is being saved."""
        began = time.perf_counter()
        yield
        now = time.perf_counter()
        self._next = now + (max(SAVE_SECONDS, (now - began) / SAVING) if self._every is None else self._every)


class Schedule:
    """Batches, length and learning rate, from the options and the number of training rows."""

    def __init__(self, options: TrainingOptions, rows: int) -> None:
        self.options = options
        # a 20th of the rows by default: a small table still gets many steps from an epoch
        batch_size = options.batch_size or min(500, max(50, rows // 20))
        self.peak_rate = options.learning_rate
        self.steps = math.ceil(rows / batch_size)
        cuts = [step * rows // self.steps for step in range(self.steps + 1)]
        self.batches = [slice(start, stop) for start, stop in pairwise(cuts)]
        """The steps' parts of an epoch's order: every row once an epoch, batches equal but for one row."""
        self.last_epoch = options.max_epochs
        if options.max_epochs is None and options.max_steps is not None:
            self.last_epoch = math.ceil(options.max_steps / self.steps)

    def rate(self, epoch: int, done: int, clock: Clock) -> float:
        """Linear warm-up; then constant, or half a cosine to zero at the last step or second, whichever is sooner."""
        options = self.options
        step = (epoch - 1) * self.steps + done
        warm = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
        if options.schedule == "constant":
            return self.peak_rate * warm
        by_steps = step / (self.last_epoch * self.steps) if self.last_epoch else 0.0
        by_time = clock.seconds() / clock.limit if clock.limit else 0.0  # the first step is taken however short it is
        return self.peak_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, max(by_steps, by_time))))
