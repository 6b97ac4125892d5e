"""``flowbench`` in a process of its own, forked off one that has imported torch and numba already.

It is the same to a command: its own modules, streams, folder, environment and exit code. That importing is light, what
the standard streams may do before the start, and signals are tested with processes begun from nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

TIMEOUT = 120.0

# elsewhere a fork is not safe once libraries have begun threads of their own
CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def flowbench(
    *words: str | Path, cwd: Path | None = None, piped: bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``flowbench words…`` as ``subprocess.run`` would, with these variables beside those of now.

    ``piped`` is what a pipe gives on standard input.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder) / "stdout", Path(folder) / "stderr"
        stdin = Path(os.devnull)
        if piped is not None:
            stdin = Path(folder) / "stdin"
            os.mkfifo(stdin)
            threading.Thread(target=stdin.write_bytes, args=(piped,), daemon=True).start()
        process = begun(words, (stdin, *streams), cwd, environment)
        process.join(TIMEOUT)
        stdout, stderr = (stream.read_text(encoding="utf-8") if stream.exists() else "" for stream in streams)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["flowbench", *words], TIMEOUT, stdout, stderr)
        process.close()
    return subprocess.CompletedProcess(["flowbench", *words], code, stdout, stderr)


def begun(
    words: Sequence[str | Path],
    streams: tuple[Path, Path, Path],
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """``flowbench words…`` with these files or terminals as its standard streams."""
    _start()
    arguments = [*map(str, words)], str(cwd or Path.cwd()), os.environ | (environment or {}), [*map(str, streams)]
    process = CONTEXT.Process(target=_command, args=arguments)
    process.start()
    return process


def _start() -> None:
    """Begin the process that the others are forked off, if it is not there yet; it ends with this one."""
    if sys.platform == "linux":
        with pytest.MonkeyPatch.context() as patch:  # until Python 3.13 it is not told of sys.path otherwise
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
            CONTEXT.set_forkserver_preload(["preloaded"])
            forkserver.ensure_running()


def _command(words: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    for number, path in enumerate(streams):
        file = os.open(path, (os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY) | os.O_NOCTTY)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (  # those that were begun with were of other files, or of none
        open(number, mode, encoding="utf-8", errors=errors, buffering=1 if number else -1, closefd=False)  # noqa: SIM115
        for number, mode, errors in ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["flowbench", *words]
    from flowbench.__main__ import main

    main()
