"""Does the gate see what it is for? Defects planted in copies of flowbench, each judged against the flowbench it was.

    python results/ci/planted.py FOLDER [NUMBER...]

trains a baseline of three seeds, plants one defect after the other in a second environment, and prints what the gate
says of each and its exit code, as Markdown. Without a defect the code is 0. Numbers choose defects, from 0 on; what is
in FOLDER already is used again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from environments import CHECKOUT, Edits, environment

TRAIN = CHECKOUT / "results" / "ci" / "train.sh"
TIMED = ("maf", "--dim", "43", "--hidden", "64,64", "--batch", "200")


@dataclass(frozen=True)
class Defect:
    """What is planted, and which gate is asked."""

    what: str
    edits: Edits = field(default_factory=dict)
    timed: bool = False


DEFECTS = (
    Defect("nothing"),
    Defect("nothing", timed=True),
    Defect(
        "the learning rate never falls",
        {"flowbench/training/loop.py": {'if options.schedule == "constant":': "if options.schedule:"}},
    ),
    Defect(
        "the learning rate falls to zero within the first epoch",
        {"flowbench/training/loop.py": {"step / (self.last_epoch * self.steps)": "step / self.steps"}},
    ),
    Defect(
        "the validation split is off by one row",
        {
            "flowbench/data/preparing/truth.py": {
                "return Splits(train, validation, test,": "return Splits(train, np.roll(validation, 1, 0), test,"
            }
        },
    ),
    Defect(
        "the validation split lacks a row",
        {
            "flowbench/data/preparing/truth.py": {
                "return Splits(train, validation, test,": "return Splits(train, validation[1:], test,"
            }
        },
    ),
    Defect(
        "batch normalisation uses the test batch's statistics",
        {"flowbench/transforms/batch_norm.py": {"return self._plans[self.training]": "return self._plans[True]"}},
    ),
    Defect(
        "an inverse takes D passes",
        {
            "flowbench/flows/core/flow.py": {
                "        if _is_watched(u):": "        if u.ndim:",
            },
            "flowbench/transforms/autoregressive.py": {
                "return substitute(self.conditioner, u)": "return self.inverse_by_passes(u)",
            },
        },
        timed=True,
    ),
    Defect(
        "a training step keeps its batch",
        {
            "flowbench/training/loop.py": {
                "    epoch = 0\n    try:": "    epoch, kept = 0, []\n    try:",
                "descent.step(next(batches),": "descent.step(kept.append(next(batches)) or kept[-1],",
            }
        },
        timed=True,
    ),
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command, with nothing of this process's own path in its environment."""
    own = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=own, check=False)


def train(python: Path, folder: Path, seeds: int = 2) -> str:
    """Train the three flows with so many seeds; the last that was said where that was refused."""
    done = run(TRAIN, python.with_name("flowbench"), folder, str(seeds))
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def judged(defect: Defect, base: Path, head: Path, baseline: Path, folder: Path) -> Iterator[str]:
    """What is said of a defect in the environment ``head``."""
    if defect.timed:
        done = run(head.with_name("flowbench"), "time", *TIMED, "--against", base, "--out", folder)
    else:
        yield train(head, folder)
        done = run(head.with_name("flowbench"), "compare", folder, "--against", baseline, "--max-nats", "0.05")
    yield (done.stdout or done.stderr).rstrip()
    yield f"exit code {done.returncode}"


def main() -> None:
    """Plant each defect, and print what the gate says of it."""
    folder, *chosen = Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:])
    base = environment(folder / "base")
    if wrong := train(base, folder / "baseline", 3):
        raise SystemExit(wrong)
    for number in chosen or range(len(DEFECTS)):
        defect = DEFECTS[number]
        head = environment(folder / f"head{number}", defect.edits)
        print(f"\n### {defect.what}\n\n```")
        for text in judged(defect, base, head, folder / "baseline", folder / f"new{number}"):
            print(text or "trained", flush=True)
        print("```", flush=True)


if __name__ == "__main__":
    main()
