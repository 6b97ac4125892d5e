"""Checkpoints, as tests want them."""

from __future__ import annotations

from pathlib import Path

import torch
from records import ENVIRONMENT

from flowbench.training.state import State
from flowbench.training.unfinished import About, Unfinished

RUN = "maf-truth-banana-01234567"


def about(run: str = RUN, kin: str = "kin") -> About:
    order = {"flow": "maf", "data": "truth-banana"}
    return About(
        run=run, kin=kin, order=order, config={}, rows_sha256={}, environment=ENVIRONMENT, started_at="", seconds=2.5
    )


def state(number: float) -> State:
    return State({"flow.weight": torch.full((3,), number)}, {"epochs": [{"validation": float("nan")}], "seconds": 1.0})


def written(folder: Path, *numbers: float) -> list[Path]:
    """The checkpoints that are left of these."""
    kept = Unfinished(folder, RUN)
    for number in numbers:
        kept.write(about(), state(number))
    return sorted((folder / "unfinished" / RUN).iterdir())


def number_of(folder: Path) -> float | None:
    found = Unfinished(folder, RUN).newest()
    return None if found is None else float(found.state.tensors["flow.weight"][0])
