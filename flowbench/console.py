"""How flowbench speaks: results to stdout; progress, warnings and errors with hints and exit codes to stderr."""

from __future__ import annotations

import codecs
import errno
import functools
import io
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.segment import Segment
from rich.text import Text

from flowbench.errors import FlowbenchError

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as RichProgress
    from rich.status import Status
    from typing_extensions import Buffer

LONGEST_CELL = 500
"""Characters of a text that is to stand in one line, such as a name in a table."""

UNLIMITED = 10_000
"""Wider than any line: what is piped is never cut or folded to a terminal that is not there."""

SECONDS_BETWEEN_LINES = 5.0
"""How often progress is written where there is no terminal, at the most."""

SPINNER_WIDTH = 2
"""Columns that rich's spinner and the space behind it take."""


class _Stream(Console):
    """A console that nothing but rich steers: all text that passes, whoever made it, is shown as `printable` has it.

    It outlives its reader: what is under way comes to its own end, with its own exit code.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **options)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """What rich writes: a segment is text, but for those by which rich itself moves the cursor, or clears."""
        shown = (each if each.control else Segment(printable(each.text), each.style) for each in buffer)
        return super()._render_buffer(shown)

    def on_broken_pipe(self) -> None:
        """What nobody reads any longer (after ``| head``, say) goes nowhere; called by rich, which would exit here."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO and not self.stderr:
                raise
            self.on_broken_pipe()  # a terminal that was closed; or a log on a full disk, which is no reason to stop


stderr = _Stream(stderr=True, soft_wrap=True)
"""Progress, warnings and errors. Results go to stdout, so that they can be piped."""


def stdout() -> Console:
    """Where results go."""
    console = _Stream()
    return console if console.is_terminal else _Stream(width=UNLIMITED)


def into(file: TextIO) -> Console:
    """What goes to a file goes through this, as wide as it is."""
    return _Stream(file=file, width=UNLIMITED)


def write_text(parts: Iterable[str], console: Console) -> None:
    """The text as it is: rich would take twenty seconds to look through the records of ten thousand runs.

    Only a terminal gets it as `printable` has it: in a file or a pipe it is data.
    """
    try:
        for part in parts:
            console.file.write(printable(part) if console.is_terminal else part)
        console.file.flush()
    except BrokenPipeError:
        console.on_broken_pipe()


def print_json(document: dict[str, Any]) -> None:
    """One strict JSON document to stdout."""
    stdout().out(json.dumps(document, indent=2, allow_nan=False))


def print_result(renderable: Any) -> None:
    """A table or a text to stdout."""
    stdout().print(renderable)


def warn(message: str) -> None:
    """One warning line on stderr."""
    stderr.print(Text.assemble(("warning:", "yellow"), " ", printable(message)))


@functools.cache
def warn_once(message: str) -> None:
    """One warning line on stderr, the first time it is said in this process."""
    warn(message)


def note(message: str) -> None:
    """One plain line on stderr."""
    stderr.print(Text(printable(message)))


def confirmed(question: str) -> bool:
    """Whether a user on a terminal says yes; no answer is none."""
    stderr.print(Text(f"{printable(question)} [y/N] "), end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_error(error: FlowbenchError) -> None:
    """The error, and its hint below it."""
    stderr.print(Text.assemble(("error:", "red"), " ", printable(str(error))))
    if error.hint:
        stderr.print(Text.assemble(("hint:", "cyan"), " ", printable(error.hint)))


def plural(n: int, noun: str) -> str:
    """A number and its noun: 1 epoch, 2 epochs, 1,000 passes, 3 entries."""
    if n != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("ry") else noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun}"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are: 0:07, 1:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    r"""The text with what would steer a terminal made visible, ``\x1b`` for an escape: it may quote a damaged file."""
    if text.isprintable() or text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, most: int = LONGEST_CELL) -> str:
    """The text as `printable` has it, a line break shown too, and cut where it is longer than any name."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return printable(cut).replace("\n", r"\n")


class Shown(io.RawIOBase):
    """A terminal's bytes: what is written is UTF-8, and is shown as `printable` has it."""

    def __init__(self, terminal: BinaryIO) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, content: Buffer) -> int:
        """All of it; a character of which a part has come waits for the rest."""
        content = bytes(content)
        self._terminal.write(printable(self._decoder.decode(content)).encode())
        return len(content)

    def flush(self) -> None:
        """To the terminal."""
        self._terminal.flush()


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
    """A run's progress on stderr: on a terminal one live line that fits it.

    Elsewhere plain lines: the first epoch's, then one every few seconds at the most, and the last epoch's. ``CI`` and
    ``TERM=dumb`` count as no terminal.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.max_seconds = max_seconds
        self._live = self._status = stderr.status("") if is_live() else None
        self._parts: list[tuple[int, str]] = []
        self._best_ll = float("-inf")
        self._last_line = float("-inf")
        self._unwritten = False

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if self._unwritten:
            self._write()

    def step(self, done: int, steps: int) -> None:
        """``done`` of an epoch's ``steps`` are done."""
        now = time.monotonic()
        if self._status and now - self._last_line > 0.1:  # a screen's pace, not the training's
            self._last_line = now
            share = f"{done / steps:4.0%}"
            parts = (
                [*self._parts[:1], (1, f"next {share}"), *self._parts[1:]] if self._parts else [(0, f"epoch 1 {share}")]
            )
            self._status.update(Text(_fitted(parts, stderr.width - SPINNER_WIDTH)))

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


def is_live() -> bool:
    """Whether stderr is a terminal that lines can be drawn anew on."""
    return stderr.is_terminal and not stderr.is_dumb_terminal and not os.environ.get("CI")
