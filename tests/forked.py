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
from multiprocessing import forkserver
from pathlib import Path

import pytest

TIMEOUT = 120.0

# elsewhere a fork is not safe once libraries have begun threads of their own
CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def flowbench(*words: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``flowbench words…`` as ``subprocess.run`` would, with these variables beside those of now."""
    _start()
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder) / "stdout", Path(folder) / "stderr"
        arguments = [*map(str, words)], str(cwd or Path.cwd()), os.environ | environment, *map(str, streams)
        process = CONTEXT.Process(target=_command, args=arguments)
        process.start()
        process.join(TIMEOUT)
        stdout, stderr = (stream.read_text(encoding="utf-8") if stream.exists() else "" for stream in streams)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["flowbench", *words], TIMEOUT, stdout, stderr)
        process.close()
    return subprocess.CompletedProcess(["flowbench", *words], code, stdout, stderr)


def _start() -> None:
    """Begin the process that the others are forked off, if it is not there yet; it ends with this one."""
    if sys.platform == "linux":
        with pytest.MonkeyPatch.context() as patch:  # until Python 3.13 it is not told of sys.path otherwise
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
            CONTEXT.set_forkserver_preload(["preloaded"])
            forkserver.ensure_running()


def _command(words: list[str], cwd: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["flowbench", *words]
    from flowbench.__main__ import main

    main()
