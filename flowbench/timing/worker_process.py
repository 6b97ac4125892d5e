"""A process that answers requests, each way a line of JSON; ``serving`` has its side of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from flowbench.config import PACKAGE
from flowbench.training.clock import WorkError


class WorkerProcess:
    """A worker's process, ``python -m module``: begun when it is first asked, and again after it has died."""

    patience: float | None = None
    """Seconds after which a process that neither reads nor answers is ended; None is any time."""

    def __init__(self, python: str, module: str, environment: Mapping[str, str]) -> None:
        self._command = [python, "-m", module]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._opened = self._is_late = False

    def start(self) -> None:
        """Begin the process, and do not wait until it is ready. Raises OSError where it cannot be begun."""
        # threads that wait while another process has its turn would take its cores, and in the working folder may lie
        # another flowbench than the one that is meant
        own = {"OMP_WAIT_POLICY": "passive", "PYTHONSAFEPATH": "1"}
        said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **own, **self._environment},
            )
        except OSError:
            said.close()
            raise
        self._said, self._opened, self._is_late = said, False, False

    def ask(self, **request: object) -> Any:
        """What it answers to a request.

        Raises:
            WorkError: the process died of it.
        """
        self.send(**request)
        return self.receive()

    def send(self, **request: object) -> None:
        """Make a request. Raises WorkError as ``ask``."""
        if self._process is None:
            self.start()
        if not self._opened:
            self._opened = True
            self._write(self._opening())
        self._write(json.dumps(request).encode() + b"\n")

    def receive(self) -> Any:
        """The answer to a request. Raises WorkError as ``ask``."""
        with self._watched():
            answer = cast("Any", self._process).stdout.readline()
        if not answer:
            raise self._death()
        try:
            return json.loads(answer)
        except ValueError:
            raise WorkError(f"its process answered {answer.decode(errors='replace').strip()!r}") from None

    def close(self) -> None:
        """End the process; it can be asked again."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _opening(self) -> bytes:
        """What it is told first."""
        return b""

    def _write(self, content: bytes) -> None:
        pipe = cast("Any", self._process).stdin
        try:
            with self._watched():
                pipe.write(content)
                pipe.flush()
        except OSError:
            raise self._death() from None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """End the process if the block takes longer than the patience: what waits for it then finds it dead."""
        watch = None if self.patience is None else threading.Timer(self.patience, self._give_up)
        if watch is not None:
            watch.start()
        try:
            yield
        finally:
            if watch is not None:
                watch.cancel()

    def _give_up(self) -> None:
        self._is_late = True
        cast("Any", self._process).kill()

    def _death(self) -> WorkError:
        code, last = self._reap()
        if self._is_late:
            return WorkError(f"its process did not answer in {self.patience:g} seconds")
        if code == -signal.SIGKILL:
            return WorkError("the system killed its process, as it does when memory is short")
        if code < 0:
            return WorkError(f"its process was ended by {signal.Signals(-code).name}")
        return WorkError(f"its process ended with {last or f'exit code {code}'}")

    def _reap(self) -> tuple[int, str]:
        """Wait for the end of the process; its exit code and its last line on stderr."""
        process, said = cast("Any", self._process), cast("IO[bytes]", self._said)
        code = process.wait()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
        for file in (process.stdin, process.stdout, said):
            with contextlib.suppress(OSError):
                file.close()
        self._process = None
        return code, lines[-1] if lines else ""


def finding_this() -> dict[str, str]:
    """The surroundings in which an interpreter imports this flowbench."""
    paths = [str(PACKAGE.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def finding_its_own() -> dict[str, str]:
    """The surroundings in which another interpreter imports its own flowbench, not one that was put before it."""
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if not (Path(path) / PACKAGE.name).is_dir())}


P = TypeVar("P", bound=WorkerProcess)


@contextmanager
def running(process: P) -> Iterator[P]:
    """The process, ended with the block."""
    try:
        yield process
    finally:
        process.close()
