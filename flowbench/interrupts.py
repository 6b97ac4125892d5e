"""Signals that end a command: which one came, and work that none of them tears.

A signal raises KeyboardInterrupt wherever the program is, once a command has begun; before that it ends the process.
Inside ``unbroken`` it waits for the block's end, so that what belongs together is done or not begun; a second one does
not wait.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

_SOON = 0.05
"""Seconds, after which a callback is over."""

_depth = 0
_waiting = False
_stopped_by = 0
_starting = False


def handle(*, starting: bool = False) -> None:
    """Let SIGTERM and a closed terminal (SIGHUP) end what is under way as Ctrl-C does: nothing half-written stays.

    What was started to outlive its terminal (``nohup``) does. While the program is ``starting``, until ``started``,
    there is nothing to be lost, and nobody to turn an exception into an exit code: the process ends with it.
    """
    global _starting
    _starting = starting
    sys.unraisablehook = _come_again
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def started() -> None:
    """A command begins, which knows how it ends when it is interrupted."""
    global _starting
    _starting = False


def stopped_by() -> int:
    """The number of the last signal that came, 0 if none did."""
    return _stopped_by


@contextmanager
def unbroken() -> Iterator[None]:
    """Work that a first signal waits for; it is raised at the end of the outermost block."""
    global _depth, _waiting
    if threading.current_thread() is not threading.main_thread():  # signals never come to it
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        due = _waiting and _depth == 1
        _depth, _waiting = _depth - 1, _waiting and _depth > 1
    if due:
        raise KeyboardInterrupt


def _come_again(lost: sys.UnraisableHookArgs) -> None:
    """What was raised in a callback of C's, where Python drops it (numba's compiler has such), is raised once more."""
    if _stopped_by and issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
        once_more = threading.Timer(_SOON, _thread.interrupt_main, [_stopped_by])
        once_more.daemon = True
        once_more.start()
    else:
        sys.__unraisablehook__(lost)


def _stop(number: int, _: object) -> None:
    global _stopped_by, _waiting
    _stopped_by = number
    if _starting:
        raise SystemExit(128 + number)
    if _depth and not _waiting:
        _waiting = True
        return
    raise KeyboardInterrupt
