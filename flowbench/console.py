"""How flowbench speaks: results to stdout; progress, warnings and errors with hints and exit codes to stderr."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from flowbench.errors import FlowbenchError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.status import Status

stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
"""Progress, warnings and errors. Results go to stdout, so that they can be piped."""


UNLIMITED = 10_000
"""Wider than any line: what is piped is never cut or folded to a terminal that is not there."""


def stdout() -> Console:
    """Where results go."""
    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=UNLIMITED)


def print_json(document: dict[str, Any]) -> None:
    """One strict JSON document to stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_result(renderable: Any) -> None:
    """A table or a text to stdout."""
    stdout().print(renderable)


def warn(message: str) -> None:
    """One warning line on stderr."""
    stderr.print(f"[yellow]warning:[/yellow] {escape(message)}")


def note(message: str) -> None:
    """One plain line on stderr."""
    stderr.print(escape(message))


def show_error(error: FlowbenchError) -> None:
    """The error, and its hint below it."""
    stderr.print(f"[red]error:[/red] {escape(printable(str(error)))}")
    if error.hint:
        stderr.print(f"[cyan]hint:[/cyan] {escape(printable(error.hint))}")


def plural(n: int, noun: str) -> str:
    """A number and its noun: 1 epoch, 2 epochs, 1,000 passes."""
    return f"{n:,} {noun}" + ("" if n == 1 else "es" if noun.endswith("s") else "s")


def printable(text: str) -> str:
    """The text without what would steer a terminal: it may quote a damaged file, or have a name from one."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Live:
    """Something of rich's that moves on a terminal while a block lasts; ``_live`` is None where there is none."""

    _live: Status | RichProgress | None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()


class Progress(_Live):
    """A run's progress on stderr: on a terminal one live line, elsewhere one plain line an epoch.

    ``CI`` and ``TERM=dumb`` count as no terminal.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.max_seconds = max_seconds
        self._summary = "starting"
        self._left = ""
        self._live = self._status = stderr.status("") if _is_live() else None
        self._shown = 0.0

    def step(self, done: int, steps: int) -> None:
        """``done`` of an epoch's ``steps`` are done."""
        now = time.monotonic()
        if self._status and now - self._shown > 0.1:  # a screen's pace, not the training's
            self._shown = now
            self._status.update(escape(f"{self._summary} · next epoch {done / steps:4.0%}{self._left}"))

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
        mark = " (best)" if best else ""
        self._summary = f"epoch {number}{f'/{of}' if of else ''}"
        self._summary += f" · train {train_ll:.3f} · validation {validation_ll:.3f}{mark} nats · {rate:,.0f} rows/s"
        # upper bounds both: patience may end it before
        bounds = [(of - number) * seconds / number] if of else []
        bounds += [max(0.0, self.max_seconds - seconds)] if self.max_seconds else []
        minutes, rest = divmod(round(min(bounds, default=0)), 60)
        self._left = f" · {minutes}:{rest:02} left" if bounds else ""
        if not self._status:
            note(self._summary + self._left)


class Working(_Live):
    """What is being done, on a terminal's last line; elsewhere nothing, because nothing ends that a line could say."""

    def __init__(self) -> None:
        self._live = self._status = stderr.status("") if _is_live() else None

    def on(self, what: str) -> None:
        """It is this."""
        if self._status:
            self._status.update(escape(what))


class Transfer(_Live):
    """A download's bytes: what and how much in one line, then on a terminal a live bar, elsewhere a line each tenth.

    ``total`` is None where the server does not say it; ``done`` bytes were there before.
    """

    def __init__(self, what: str, done: int, total: int | None) -> None:
        from rich import progress

        self._what, self._done, self._total = what, done, total
        size = f" ({decimal(total)})" if total is not None else ""
        note(f"fetching {what}{size}" + (f", going on at {decimal(done)}" if done else ""))
        self._live = self._bar = None
        if _is_live():
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


def _is_live() -> bool:
    return stderr.is_terminal and not stderr.is_dumb_terminal and not os.environ.get("CI")
