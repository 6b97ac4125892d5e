"""One file from the network: whole and checked before it takes its name.

pooch hashes what came and names it. Its own HTTP downloader writes to a temporary file that is deleted when the
connection breaks, so that gigabytes would begin anew, and it decodes what a server labels as compressed (a .tgz, say),
so that the checksum would be of other bytes. It is given `_Resuming` instead, which keeps what has come in
``<name>.part`` and asks for the rest.

urllib3's ``Retry`` counts the attempts and says how long to wait. The loop around it is ours, because urllib3 repeats
only requests that have not been answered yet: it never goes on where the body of an answer broke off.
"""

from __future__ import annotations

import io
import logging
import os
import re
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.filesize import decimal

from flowbench.console import note, warn
from flowbench.data.card import RawFile
from flowbench.data.sources.part import Part
from flowbench.data.sources.storing import ensure_room, storing
from flowbench.errors import DataError
from flowbench.progress import Transfer

if TYPE_CHECKING:
    import requests
    from urllib3 import Retry

ATTEMPTS = 4
"""Attempts at one URL that bring nothing new, before the next URL is tried."""

BACKOFF_SECONDS = 1.0
"""The second attempt follows at once, the third after twice this; the wait then doubles before each one after."""

LONGEST_WAIT_SECONDS = 60.0
"""However long a server asks to wait (Retry-After)."""

TIMEOUT_SECONDS = 30.0
"""For a connection, and for each silence after; and the stretch over which the slowest rate is measured."""

SLOWEST_BYTES_PER_SECOND = 1000
"""Slower is as good as broken."""

_BLOCK = 1 << 18
_STRETCH = 1 << 28  # bytes for which room is looked for ahead
_PASSING = frozenset({408, 416, 425, 429, 500, 502, 503, 504})


class UnavailableError(DataError):
    """No URL gives the file, whatever the reason; another source may (exit 4)."""


def download(file: RawFile, folder: Path) -> str:
    """Get ``file`` into ``folder`` from its URL, else from its mirrors; return the one that gave it.

    The file takes its name when it is complete and has its checksum, not before. What a break leaves lies in
    ``<name>.part``, and the next call goes on from there if the server still has the same file.
    The caller holds the folder (`storing.alone`).

    Raises:
        UnavailableError: no URL has it, or each has other content than was published.
        DataError: the folder cannot be written to, or is too small.
    """
    urls = (file.url, *file.mirrors)
    reasons = []
    for url in urls:
        try:
            _retrieve(file, url, folder)
            return url
        except UnavailableError as error:
            reasons.append(f"{url}: {error}")
            if url != urls[-1]:
                warn(f"{reasons[-1]}; trying its mirror")
    raise UnavailableError(f"{file.name} cannot be downloaded: " + "; ".join(reasons))


def _retrieve(file: RawFile, url: str, folder: Path) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # what it would say is said by Transfer
    known = f"sha256:{file.sha256}" if file.sha256 else f"md5:{file.md5}" if file.md5 else None
    with storing(folder):
        try:
            pooch.retrieve(url, known, fname=file.name, path=folder, downloader=_Resuming(file, folder))
        except ValueError as error:  # pooch's word for a wrong checksum; it has deleted the file
            raise UnavailableError(str(error)) from error


class _Resuming:
    """A downloader as pooch calls one: the bytes behind a URL into a file, in as many attempts as it takes."""

    def __init__(self, file: RawFile, folder: Path) -> None:
        self._file = file
        self._part = Part(folder / f"{file.name}.part")

    def __call__(self, url: str, output_file: str, _: object) -> None:
        import requests
        import urllib3

        furthest, retries = 0, _retries()
        with _session() as session:
            while True:
                try:
                    self._receive(session, url)
                    break
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    if self._part.size > furthest:  # what brings something new costs no attempt
                        furthest, retries = self._part.size, _retries()
                    if not (retries.total and _may_pass(error, retries)):
                        raise UnavailableError(_reason(error)) from error
                    retries = retries.increment("GET", error=error)
                    seconds = _wait(error, retries)
                    note(f"{self._file.name}: {_reason(error)}; again in {seconds:.3g} s")
                    time.sleep(seconds)
        self._part.move(Path(output_file))

    def _receive(self, session: requests.Session, url: str) -> None:
        """One request: the whole file, or what the partial one lacks of it."""
        part = self._part
        if part.is_complete(url):  # it was stopped between its last byte and its name
            return
        headers = {"Accept-Encoding": "identity"} | part.range(url)
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            if response.status_code == 416:
                part.discard()  # it is longer than the file
            response.raise_for_status()
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise UnavailableError("the server answers with a web page")
            if response.status_code == 206:
                total: int | None = part.total_if_continued(response.headers.get("Content-Range", ""))
            else:
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdecimal() else None
                part.start(url, _validator(response), total)
            published = self._file.size_bytes
            if total and published and total > published:
                part.discard()
                raise UnavailableError(f"it offers {decimal(total)}, and {decimal(published)} were published")
            ensure_room(part.path.parent, (total or published or 0) - part.size, self._file.name)
            with Transfer(f"{self._file.name} from {urlsplit(url).hostname}", part.size, total) as transfer:
                self._append(response, transfer, published or total)
        _ensure_whole(part.size, total)

    def _append(self, response: requests.Response, transfer: Transfer, most: int | None) -> None:
        """What comes, up to the length that is known; where none is, as long as there is room."""
        length, room = self._part.size, _STRETCH
        with self._part.path.open("ab") as partial:
            pace = _Pace()
            while block := response.raw.read1(_BLOCK):  # what is there: one that waits for all would lose it at a break
                length, room = length + len(block), room - len(block)
                if most is not None and length > most:
                    self._part.discard()
                    raise UnavailableError(f"it sends more than the {decimal(most)} that the file has")
                if room < 0:
                    room = _STRETCH
                    ensure_room(self._part.path.parent, room, self._file.name)
                partial.write(block)
                partial.flush()  # what has come outlives this process, however that ends
                transfer.advance(len(block))
                pace.keep(len(block))
            os.fsync(partial.fileno())  # else a power cut may leave the final name on an empty file


class _Pace:
    """Gives up on a server that sends a little now and then, and so is never silent."""

    def __init__(self) -> None:
        self._since, self._n_bytes = time.monotonic(), 0

    def keep(self, n_bytes: int) -> None:
        import requests

        self._n_bytes += n_bytes
        seconds = time.monotonic() - self._since
        if seconds > TIMEOUT_SECONDS:
            if self._n_bytes < SLOWEST_BYTES_PER_SECOND * seconds:
                raise requests.ReadTimeout(f"{self._n_bytes} bytes in {seconds:.0f} s")
            self._since, self._n_bytes = time.monotonic(), 0


def _session() -> requests.Session:
    """A session that says who asks, sends no credentials, and at no redirect speaks in clear beyond this machine."""
    import requests
    from requests.adapters import HTTPAdapter

    class Encrypted(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            parts = urlsplit(request.url or "")
            if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise requests.exceptions.InvalidURL(f"{request.url} is not https")
            response = super().send(request, *args, **kwargs)
            if response.is_redirect:  # of which requests would read the body, however long that is
                response.close()
                response.raw = io.BytesIO()
            return response

    session = requests.Session()
    session.headers["User-Agent"] = f"flowbench/{version('flowbench')}"
    session.auth = lambda request: request  # else those of ~/.netrc are sent
    for scheme in ("https://", "http://"):
        session.mount(scheme, Encrypted())
    return session


def _validator(response: requests.Response) -> str | None:
    """What tells this version of the file from others; a weak ETag does not (RFC 9110, 8.8.3)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _ensure_whole(size: int, total: int | None) -> None:
    import requests

    if total is not None and size != total:
        raise requests.ConnectionError(f"{decimal(size)} of {decimal(total)} came")


def _retries() -> Retry:
    from urllib3 import Retry

    return Retry(
        ATTEMPTS - 1, status_forcelist=_PASSING, backoff_factor=BACKOFF_SECONDS, backoff_max=LONGEST_WAIT_SECONDS
    )


def _may_pass(error: Exception, retries: Retry) -> bool:
    """Whether another attempt may succeed where this one failed."""
    import requests
    from urllib3.exceptions import NameResolutionError

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return retries.is_retry("GET", error.response.status_code)
    if isinstance(getattr(error.args[0] if error.args else None, "reason", None), NameResolutionError):
        return False  # there is no network, or no such host
    return not isinstance(error, ValueError | requests.TooManyRedirects | requests.exceptions.SSLError)


def _wait(error: Exception, retries: Retry) -> float:
    """Seconds until the next attempt: as long as the server asks for (Retry-After) or longer."""
    from urllib3.exceptions import InvalidHeader

    seconds, response = retries.get_backoff_time(), getattr(error, "response", None)
    if response is not None:
        with suppress(InvalidHeader):
            seconds = max(seconds, retries.get_retry_after(response.raw) or 0.0)
    return min(seconds, LONGEST_WAIT_SECONDS)


def _reason(error: Exception) -> str:
    """The innermost reason as a user reads it, without the connection's address."""
    import requests
    import urllib3

    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"the server is silent, or too slow, for {TIMEOUT_SECONDS:g} s"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke"
    inner: BaseException = error
    while isinstance(reason := getattr(inner, "reason", None) or (inner.args or ("",))[-1], BaseException):
        inner = reason
    return re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", str(inner)) or type(inner).__name__
