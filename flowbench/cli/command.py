"""What all commands share: how one ends that fails, is interrupted, or has lost a standard stream."""

from __future__ import annotations

import functools
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec

from typer.core import TyperGroup

from flowbench import interrupts
from flowbench.console import note, printable, show_error
from flowbench.errors import DataError, FlowbenchError, UsageError, shortage

P = ParamSpec("P")

_debug = False


def show_tracebacks(wanted: bool) -> None:
    """``--debug``: whether an error is shown with its traceback."""
    global _debug
    _debug = wanted


def open_standard_streams() -> None:
    """Put the null device in place of the standard streams that were closed before the start, as ``2>&-`` does.

    The next file to be opened would get the number of a closed stream, and all that a library prints would go into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where they are not UTF-8, µ is no reason to fail


def command(body: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into a message and an exit code; a traceback is shown only with ``--debug``."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        interrupts.started()
        try:
            _refuse_no_text(kwargs.values())
            body(*args, **kwargs)
        except FlowbenchError as error:
            _fail(error, cause=error)
        except KeyboardInterrupt:
            _leave_interrupted()
        except Exception as error:
            if interrupts.stopped_by():  # an import that was interrupted may raise anything
                _leave_interrupted()
            if _debug:
                note(traceback.format_exc().rstrip())
                raise SystemExit(1) from error
            if short := shortage(error):
                _fail(short)
            if isinstance(error, OSError) and error.strerror:  # the system's, not a defect
                _fail(DataError(f"{error.filename or 'output'}: {error.strerror}"))
            what, notes = f"{type(error).__name__}: {error}", getattr(error, "__notes__", [])
            whose = notes[0] if notes else "this is a defect of flowbench"  # a file from outside is named in a note
            _fail(FlowbenchError(what, hint=f"{whose.rstrip('.')}; `flowbench --debug …` shows where"))

    return run


def _refuse_no_text(values: Iterable[object]) -> None:
    """Raise UsageError if one of a command line's words is no text: no record could hold it."""
    for word in values:
        try:
            str(word).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{printable(str(word))} is not UTF-8", "rename the file, or give a link to it that has another name"
            ) from error


class Commands(TyperGroup):
    """The commands, where what is said of an argument that is none shows it as `printable` has it."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """What reads the arguments before the command's name."""
        with _shown():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """What reads the command's, and runs it."""
        with _shown():
            return super().invoke(ctx)


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, which it prints itself
            error.message = printable(error.message)  # type: ignore[attr-defined]
        raise


def _fail(error: FlowbenchError, cause: Exception | None = None) -> NoReturn:
    show_error(error)
    raise SystemExit(error.exit_code) from (cause if _debug else None)


def _leave_interrupted() -> NoReturn:
    note("interrupted")
    # where it was an ``exec`` of text that the signal came into (scipy has one as it is imported), ``python -m`` would
    # end as SIGINT ends it, whichever signal it was: another one takes that back
    exec("")
    raise SystemExit(128 + (interrupts.stopped_by() or signal.SIGINT))
