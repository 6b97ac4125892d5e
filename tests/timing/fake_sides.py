"""Interpreters whose flowbench answers what a test wants: a worker that is no more than its protocol."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from records import ENVIRONMENT

WORKER = """
import json, os, pathlib, sys
requests = sys.stdin.buffer
n, dim = json.loads(requests.readline())["shape"]
requests.read(4 * n * dim)
folder = pathlib.Path(__file__).parent
(folder / f"{os.getpid()}.pid").touch()
begun = len(list(folder.glob("*.pid")))  # processes so far, this one too
answers = json.loads((folder / "answers.json").read_text())
for line in requests:
    request = json.loads(line)
    answer = answers[request["what"]]
    if isinstance(answer, list):  # by process; the last one for all that follow
        answer = answer[min(begun, len(answer)) - 1]
    if isinstance(answer, str):
        exec(answer)
    print(json.dumps(answer), flush=True)
"""

ANSWERS = {
    "hello": {
        "protocol": 1,
        "refused": None,
        "works": ["density", "sampling", "step"],
        "package": "somewhere/flowbench",
        "environment": ENVIRONMENT.model_dump(mode="json"),
    },
    "seconds": 1e-2,
    "peak_bytes": 10_000_000,
    "training_bytes": 50_000_000,
}


def interpreter(folder: Path, package: Path) -> str:
    """A ``python`` that finds flowbench in ``package``, whatever it is told."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{package}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def fake(folder: Path, **answers: object) -> str:
    """An interpreter whose worker gives these answers, and for the rest ``ANSWERS``.

    A list has an answer for each process that is begun, a text is run.
    """
    timing = folder / "flowbench" / "timing"
    timing.mkdir(parents=True)
    for package in (timing, timing.parent):
        (package / "__init__.py").touch()
    (timing / "worker.py").write_text(WORKER)
    (timing / "answers.json").write_text(json.dumps(ANSWERS | answers))
    return interpreter(folder, folder)


def processes(python: str) -> list[int]:
    """The ids of all processes that the interpreter was begun as."""
    return [int(path.stem) for path in (Path(python).parent / "flowbench" / "timing").glob("*.pid")]
