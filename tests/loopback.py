"""A real HTTP server on the loopback: each path a scenario, every request remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Scenario = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """What a scenario gets: the request's headers, and how to answer."""

    protocol_version = "HTTP/1.1"
    server: LoopbackServer

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.seen.append(self)
        scenario = self.server.scenarios.get(self.path.lstrip("/"))
        try:
            if scenario is None:
                self.answer(404, b"no such file")
            else:
                scenario(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Send headers (``Content_Length`` is spelt so) and a body; ``length`` is what is promised of it."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    @property
    def first_byte(self) -> int:
        """Where the range that is asked for begins; 0 without one."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def log_message(self, *_: object) -> None:
        pass


class LoopbackServer(ThreadingHTTPServer):
    """``scenarios`` by path; ``seen`` are the requests in order; ``closing`` is set when the test is over.

    ``ended`` is whether anybody took all of an endless body.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.scenarios: dict[str, Scenario] = {}
        self.seen: list[Request] = []
        self.closing = threading.Event()
        self.ended = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def serve(self, path: str, *answers: Scenario) -> str:
        """Give one answer after the other, the last one ever after; return the URL."""
        left = list(answers)
        self.scenarios[path] = lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)
        return self.url(path)

    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.seen]


@contextmanager
def running() -> Iterator[LoopbackServer]:
    server = LoopbackServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def whole(body: bytes, **headers: str) -> Scenario:
    """The file, whatever range is asked for."""
    return lambda request: request.answer(200, body, **headers)


def ranged(body: bytes, etag: str = '"v1"') -> Scenario:
    """The file, or the part of it that is asked for if it is still the same."""

    def answer(request: Request) -> None:
        first = request.first_byte
        if not first or request.headers.get("If-Range", etag) != etag:
            return request.answer(200, body, ETag=etag)
        span = f"bytes {first}-{len(body) - 1}/{len(body)}"
        return request.answer(206, body[first:], ETag=etag, Content_Range=span)

    return answer


def cut(body: bytes, n_bytes: int, **headers: str) -> Scenario:
    """All of the file is promised, and the connection breaks after ``n_bytes``."""
    return lambda request: request.answer(200, body[:n_bytes], length=len(body), **headers)


def status(code: int, **headers: str) -> Scenario:
    """That status and nothing more."""
    return lambda request: request.answer(code, b"", **headers)


def silent(request: Request) -> None:
    """Nothing at all."""
    request.server.closing.wait(60)


def stalled(body: bytes, n_bytes: int, **headers: str) -> Scenario:
    """The first ``n_bytes``, then nothing, with the connection open."""

    def answer(request: Request) -> None:
        request.answer(200, body[:n_bytes], length=len(body), **headers)
        request.server.closing.wait(60)

    return answer


def dripping(body: bytes) -> Scenario:
    """A byte now and then: the server is never silent."""

    def answer(request: Request) -> None:
        request.answer(200, length=len(body))
        for i in range(len(body)):
            request.wfile.write(body[i : i + 1])
            if request.server.closing.wait(0.02):
                return

    return answer


def endless(code: int, most: int, **headers: str) -> Scenario:
    """A body without a length that does not end; after ``most`` bytes nobody can have wanted them."""

    def answer(request: Request) -> None:
        request.send_response(code)
        request.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        block = bytes(1 << 16)
        for _ in range(0, most, len(block)):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        request.wfile.write(b"0\r\n\r\n")
        request.server.ended = True

    return answer
