"""The errors a user can cause or meet, each with its exit code and a hint of what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class FlowbenchError(Exception):
    """A user's error: what was wrong, and in ``hint`` what to do about it. Printed without a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class DivergedError(FlowbenchError):
    """Training or a closing check gave numbers that cannot be trusted (exit 1)."""


class UsageError(FlowbenchError):
    """A name, option or setting that does not exist, or a value it cannot have (exit 2)."""

    exit_code = 2


class ShortOfMemoryError(FlowbenchError):
    """What was ordered takes more memory than there is (exit 4)."""

    exit_code = 4


class NothingToCompareError(FlowbenchError):
    """No records of runs were found (exit 3)."""

    exit_code = 3


class DataError(FlowbenchError):
    """Data that is missing, damaged or unfit for a density (exit 4)."""

    exit_code = 4


_LONGEST_REASON, _LONGEST_PLACE = 500, 100

_SAID_OF_MEMORY = "can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc"
"""By torch, on a CPU or a GPU."""


def shortage(error: BaseException) -> ShortOfMemoryError | None:
    """What an error says if it is that memory was refused; None if it is another one."""
    said = str(error).partition("\n")[0]
    refused = isinstance(error, RuntimeError) and any(words in said.lower() for words in _SAID_OF_MEMORY)
    if not (refused or isinstance(error, MemoryError)):
        return None
    detail = f": {said}" if said else ""
    return ShortOfMemoryError(f"there is not enough memory{detail}", "fewer rows or a smaller model take less")


@contextmanager
def memory_granted() -> Iterator[None]:
    """Work in which memory that is refused is an outcome of its own.

    Raises:
        ShortOfMemoryError: it was refused.
    """
    try:
        yield
    except Exception as error:
        if short := shortage(error):
            raise short from error
        raise


def reason_of(error: BaseException) -> str:
    """What another library's error says, as far as a message has room for it: it may quote what is in a file."""
    said = str(error).strip() or type(error).__name__
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Where the first of what pydantic has found is, and what it is; what was found there may be of any length."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(str(part)[:_LONGEST_PLACE] for part in found["loc"]), found["msg"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, and all that there are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    question = f"did you mean {near[0]}? " if near else ""
    return f"{question}there are: {', '.join(known)}"
