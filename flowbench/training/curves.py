"""A run's curves as TensorBoard reads them: a file of events, written epoch by epoch."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flowbench.config import RunConfig
from flowbench.console import warn
from flowbench.errors import UsageError
from flowbench.interrupts import unbroken
from flowbench.training.state import Epoch

FOLDER = "tensorboard"
"""In a folder of results; a folder for each run is in it."""


def refuse_without_tensorboard() -> None:
    """Before anything takes time.

    Raises:
        UsageError: the extra that writes curves is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("tensorboard is not installed", "pip install 'flowbench[tensorboard]'")


class Curves:
    """Those of one run; its epochs are the steps.

    Each process writes a file of its own, from the first epoch on, and says that what was written before is void: a run
    that goes on, perhaps under another name or from an earlier epoch than it had come to, has no step twice. A write
    that fails is told once, and ends the curves but not the run. Written at once and without threads, unlike torch's
    ``SummaryWriter``, whose thread dies of a full disk with a traceback.
    """

    def __init__(self, folder: Path, run: str, config: RunConfig) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import text

        self._shown = 0
        self._records: RecordWriter | None = None
        place = folder / FOLDER / run
        with self._that_may_fail():
            place.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():017.6f}.{platform.node()}.{os.getpid()}"  # read in this order
            self._records = RecordWriter((place / name).open("xb"))
            self._write(time.time(), file_version="brain.Event:2")
            self._write(time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
            self._write(time.time(), step=0, summary=text("run", _as_markdown(run, config)))

    def show(self, epochs: Sequence[Epoch]) -> None:
        """All of the run so far, of which those are written that are not yet; the last has ended just now."""
        with self._that_may_fail():
            for epoch in epochs[self._shown :]:
                wall = time.time() - (epochs[-1].seconds - epoch.seconds)
                figures = {
                    "log_likelihood_nats/train": epoch.train_ll_nats,
                    "log_likelihood_nats/validation": epoch.validation_ll_nats,
                    "training/learning_rate": epoch.learning_rate,
                    "training/gradient_norm": epoch.gradient_norm,
                    "training/rows_per_second": epoch.rows / epoch.train_seconds,
                }
                self._write_figures(figures, epoch.number, wall)
        self._shown = len(epochs)

    def test(self, ll_nats: float, epoch: int) -> None:
        """The mean log-likelihood of test rows, after the epoch that was best by validation."""
        with self._that_may_fail():
            self._write_figures({"log_likelihood_nats/test": ll_nats}, epoch, time.time())

    def close(self) -> None:
        """There is no more."""
        records, self._records = self._records, None
        if records is not None:
            with suppress(OSError):  # what is left in the file's buffer has failed before
                records.close()

    def _write_figures(self, figures: dict[str, float], step: int, wall: float) -> None:
        from torch.utils.tensorboard.summary import scalar

        for tag, value in figures.items():
            self._write(wall, step=step, summary=scalar(tag, value))

    def _write(self, wall: float, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._records is not None:
            self._records.write(Event(wall_time=wall, **content).SerializeToString())

    @contextmanager
    def _that_may_fail(self) -> Iterator[None]:
        try:
            with unbroken():  # half a record would end the file for its reader
                yield
                if self._records is not None:
                    self._records.flush()
        except OSError as error:
            warn(f"TensorBoard's curves end here, the run goes on: {error}")
            self.close()


def _as_markdown(run: str, config: RunConfig) -> str:
    """The settings as a table: what is shown of a text is Markdown."""
    found: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        found |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    lines = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in found.items()]
    return "\n".join([f"`{run}`", "", "| setting | value |", "|---|---|", *lines])
