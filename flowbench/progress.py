"""What is under way, on stderr: on a terminal a line that moves, elsewhere plain lines now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.filesize import decimal
from rich.text import Text

from flowbench.console import UNLIMITED, clock, is_live, note, printable, stderr
from flowbench.sparkline import Curve

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as RichProgress
    from rich.status import Status

SECONDS_BETWEEN_LINES = 5.0
"""How often progress is written where there is no terminal, at the most."""

SPINNER_WIDTH = 2
"""Columns that rich's spinner and the space behind it take."""

CURVE_WIDTHS = 8, 20
"""Columns of a sparkline of validation likelihoods, at the least and at the most."""

NARROWEST = 80
"""Columns of a terminal that has one: on others figures are told alone."""


class Moving:
    """Something of rich's that moves on a terminal while a block lasts; ``_live`` is None where there is none."""

    _live: Status | RichProgress | Live | None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()


class Progress(Moving):
    """A run's progress on stderr: on a terminal one live line that fits it, a sparkline in what room is left.

    Elsewhere plain lines: the first epoch's, then one every few seconds at the most, and the last epoch's. ``CI`` and
    ``TERM=dumb`` count as no terminal.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.max_seconds = max_seconds
        self._live = self._status = stderr.status("") if is_live() else None
        self._parts: list[tuple[int, str]] = []
        self._best_ll = float("-inf")
        self._curve = Curve()
        self._last_line = float("-inf")
        self._unwritten = False

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if self._unwritten:
            self._write()

    def goes_on(self, validation_lls: Sequence[float], best_ll: float | None) -> None:
        """From these epochs' mean log-likelihoods, of which the best is known."""
        self._curve = Curve(validation_lls)
        self._best_ll = float("-inf") if best_ll is None else best_ll

    def step(self, done: int, steps: int) -> None:
        """``done`` of an epoch's ``steps`` are done."""
        now = time.monotonic()
        if self._status and now - self._last_line > 0.1:  # a screen's pace, not the training's
            self._last_line = now
            share = f"{done / steps:4.0%}"
            parts = (
                [*self._parts[:1], (1, f"next {share}"), *self._parts[1:]] if self._parts else [(0, f"epoch 1 {share}")]
            )
            self._status.update(Text(self._with_curve(_fitted(parts, stderr.width - SPINNER_WIDTH))))

    def epoch(
        self,
        number: int,
        of: int | None,
        train_ll: float,
        validation_ll: float,
        best: bool,
        rate: float,
        seconds: float,
    ) -> None:
        """An epoch's mean log-likelihoods in nats, training rows per second, and seconds since training began."""
        self._best_ll = validation_ll if best else self._best_ll
        self._curve.add(validation_ll)
        mark = "(best)" if best else f"(best {self._best_ll:.3f})"
        left = self.seconds_left(number, of, seconds)
        self._parts = [
            (0, f"epoch {number}{f'/{of}' if of else ''}"),
            (5, f"train {train_ll:.3f}"),
            (2, f"validation {validation_ll:.3f} {mark} nats"),
            (4, f"{rate:,.0f} rows/s"),
            *([] if left is None else [(3, f"{clock(left)} left")]),
        ]
        self._unwritten = not self._status
        if self._unwritten and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._write()

    def seconds_left(self, number: int, of: int | None, seconds: float) -> float | None:
        """At the most, after so many epochs in so many seconds: patience may end it before; None: nobody knows."""
        bounds = [(of - number) * seconds / number] if of else []
        bounds += [max(0.0, self.max_seconds - seconds)] if self.max_seconds else []
        return min(bounds, default=None)

    def _with_curve(self, line: str) -> str:
        """The line, and behind it the curve where there is room and the terminal knows its characters."""
        least, most = CURVE_WIDTHS
        room = stderr.width - SPINNER_WIDTH - len(f"{line} · ")
        if stderr.width < NARROWEST or room < least or stderr.options.ascii_only:
            return line
        curve = self._curve.line(min(room, most))
        return f"{line} · {curve}" if curve else line

    def _write(self) -> None:
        note(_fitted(self._parts, UNLIMITED))
        self._unwritten = False
        self._last_line = time.monotonic()


def _fitted(parts: list[tuple[int, str]], width: int) -> str:
    """As many of the parts as fit in so many columns, in their order; those of the highest rank are left out first."""
    while len(parts) > 1 and len(" · ".join(text for _, text in parts)) > width:
        parts = [part for part in parts if part[0] != max(rank for rank, _ in parts)]
    return " · ".join(text for _, text in parts)


class Working(Moving):
    """What is being done, on a terminal's last line; elsewhere a line of each thing that is done."""

    def __init__(self) -> None:
        self._live = self._status = stderr.status("") if is_live() else None

    def on(self, what: str) -> None:
        """It is this."""
        if self._status:
            self._status.update(Text(printable(what)))

    def done(self, what: str) -> None:
        """It is done."""
        if not self._status:
            note(what)


class Transfer(Moving):
    """A download's bytes: what and how much in one line, then on a terminal a live bar, elsewhere a line each tenth.

    ``total`` is None where the server does not say it; ``done`` bytes were there before.
    """

    def __init__(self, what: str, done: int, total: int | None) -> None:
        from rich import progress

        self._what, self._done, self._total = what, done, total
        size = f" ({decimal(total)})" if total is not None else ""
        note(f"fetching {what}{size}" + (f", going on at {decimal(done)}" if done else ""))
        self._live = self._bar = None
        if is_live():
            columns = progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn()
            self._bar = progress.Progress(*columns, progress.TimeRemainingColumn(), console=stderr, transient=True)
            self._live = self._bar
            self._task = self._bar.add_task("", completed=done, total=total)

    def advance(self, n_bytes: int) -> None:
        """So many bytes more have come."""
        before, self._done = self._done, self._done + n_bytes
        if self._bar:
            self._bar.advance(self._task, n_bytes)
        elif self._total and 10 * before // self._total < 10 * self._done // self._total < 10:
            note(f"{self._what}: {decimal(self._done)} of {decimal(self._total)}")
