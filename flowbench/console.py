"""How flowbench speaks: results to stdout; progress, warnings and errors with hints and exit codes to stderr."""

from __future__ import annotations

import codecs
import errno
import functools
import io
import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from flowbench.errors import FlowbenchError

if TYPE_CHECKING:
    from typing_extensions import Buffer

LONGEST_CELL = 500
"""Characters of a text that is to stand in one line, such as a name in a table."""

UNLIMITED = 10_000
"""Wider than any line: what is piped is never cut or folded to a terminal that is not there."""


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


def is_live() -> bool:
    """Whether stderr is a terminal that lines can be drawn anew on."""
    return stderr.is_terminal and not stderr.is_dumb_terminal and not os.environ.get("CI")
