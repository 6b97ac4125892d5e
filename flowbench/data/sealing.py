"""Small files that prove themselves: whatever is altered in one, a single bit too, it is not taken for what it was."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flowbench.errors import first_fault

_DIGEST_BYTES = 32


class DamagedError(Exception):
    """A file is not what was written, or cannot be read; the message names it, and says what is wrong."""


_SHORT = errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Work on a file that is not trusted: whatever it holds, what goes wrong is one error that names it.

    Raises:
        DamagedError: something went wrong.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedError(f"{path.name} is missing") from error
    except OSError as error:
        if error.errno in _SHORT:  # of which the file knows nothing: it may be as it was written
            raise
        raise DamagedError(f"{path.name} cannot be read ({error.strerror or error})") from error
    except RecursionError as error:
        raise DamagedError(f"{path.name} is damaged (it is nested too deep)") from error
    except ValidationError as error:
        where, said = first_fault(error)
        raise DamagedError(f"{path.name} is damaged ({where or 'it'}: {said})") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedError(f"{path.name} is damaged ({error})") from error


def sealed(document: Mapping[str, Any]) -> bytes:
    """The document as strict JSON whose first member, on a line of its own, is the sha256 of all that follows."""
    rest = json.dumps(document, indent=1, allow_nan=False).removeprefix("{\n").encode()
    return _seal(rest) + rest


def unsealed(content: bytes) -> dict[str, Any]:
    """The document that `sealed` made this of, byte for byte.

    Raises:
        ValueError: it is another file, or a damaged one.
    """
    _, _, rest = content.partition(b"\n")
    if _seal(rest) + rest != content:
        raise ValueError("it is not as it was written" if is_sealed(content) else "it was not written by this version")
    document: dict[str, Any] = json.loads(b"{" + rest)
    return document


def is_sealed(content: bytes) -> bool:
    """Whether this begins as `sealed` begins it, be it whole or not."""
    return content.startswith(b'{"sha256"')


def signed(content: bytes, what: str) -> bytes:
    """The content, and behind it a digest of it and of ``what`` it belongs to."""
    return content + _signature(content, what)


def unsigned(content: bytes, what: str) -> bytes:
    """The content that `signed` made this of.

    Raises:
        ValueError: it is another file, or a damaged one, or belongs to something else.
    """
    kept = content[:-_DIGEST_BYTES]
    if content != signed(kept, what):
        raise ValueError("it is not as it was written")
    return kept


def _seal(rest: bytes) -> bytes:
    return f'{{"sha256": "{hashlib.sha256(rest).hexdigest()}",\n'.encode()


def _signature(content: bytes, what: str) -> bytes:
    return hashlib.sha256(what.encode() + content).digest()
