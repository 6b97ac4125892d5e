"""Does the gate see what it is for? Defects planted in copies of flowbench, each judged against the flowbench it was.

    python results/ci/planted.py [FOLDER]

trains a baseline of five seeds, plants one defect after the other in a second environment, and prints what the gate
says of each and its exit code, as Markdown. Without a defect the code is 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from environments import Edits, environment

FLOWS = ("maf", "iaf", "realnvp")
DATA = "truth-gaussian"
SETTINGS = ("hidden=64,64", "transforms=3", "max_steps=1500")
SEEDS = 5
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


def run(python: Path, *arguments: str, expected: int | None = None) -> subprocess.CompletedProcess[str]:
    """``flowbench`` with these arguments, in that environment."""
    command = [str(python), "-P", "-m", "flowbench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}, check=False)
    if expected is not None and done.returncode != expected:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done


def train(python: Path, folder: Path, seeds: int) -> list[str]:
    """Train each flow with so many seeds; what went wrong is returned, a line each."""
    wrong = []
    for flow in FLOWS:
        for seed in range(seeds):
            settings = (part for each in SETTINGS for part in ("--set", each))
            where = ("--data", DATA, "--seed", str(seed), "--out", str(folder))
            done = run(python, "train", flow, *where, *settings)
            if done.returncode:
                wrong += [f"train {flow}: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1]}"]
    return wrong


def judged(defect: Defect, base: Path, head: Path, baseline: Path, folder: Path) -> Iterator[str]:
    """What is said of a defect in the environment ``head``."""
    if defect.timed:
        done = run(head, "time", *TIMED, "--against", str(base), "--out", str(folder))
    else:
        yield from train(head, folder, 1)
        done = run(head, "compare", str(folder), "--against", str(baseline))
    yield done.stdout.rstrip() + done.stderr.rstrip() * (not done.stdout)
    yield f"exit code {done.returncode}"


def main() -> None:
    """Plant each defect, and print what the gate says of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else name).absolute()
        base = environment(folder / "base")
        if wrong := train(base, folder / "baseline", SEEDS):
            raise SystemExit("\n".join(wrong))
        for number, defect in enumerate(DEFECTS):
            head = environment(folder / f"head{number}", defect.edits)
            print(f"\n### {defect.what}\n\n```")
            for text in judged(defect, base, head, folder / "baseline", folder / f"new{number}"):
                print(text, flush=True)
            print("```", flush=True)


if __name__ == "__main__":
    main()
