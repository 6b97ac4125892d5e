"""Checkpoints, as tests want them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from records import ENVIRONMENT

from flowbench.training.state import Epoch, State
from flowbench.training.unfinished import About, Unfinished

RUN = "maf-truth-banana-01234567"


def about(run: str = RUN, kin: str = "kin") -> About:
    order = {"flow": "maf", "data": "truth-banana"}
    return About(
        run=run, kin=kin, order=order, config={}, rows_sha256={}, environment=ENVIRONMENT, started_at="", seconds=2.5
    )


def state(number: float) -> State:
    epoch = Epoch(1, None, float("nan"), -1.0, True, 10, 0.5, 0.6, 1e-3, 1.0)
    numbers = {
        "epochs": [asdict(epoch)],
        "ended": False,
        "steps_of_epoch": 0,
        "descended": 0.0,
        "peak_rate": 1e-3,
        "rate": 1e-3,
        "retries": 0,
        "seconds": 1.0,
        "device": "cpu",
    }
    return State({"flow.weight": torch.full((3,), number)}, numbers)


def written(folder: Path, *numbers: float) -> list[Path]:
    """The checkpoints that are left of these."""
    kept = Unfinished(folder, RUN)
    for number in numbers:
        kept.write(about(), state(number))
    return sorted((folder / "unfinished" / RUN).iterdir())


def number_of(folder: Path) -> float | None:
    found = Unfinished(folder, RUN).newest()
    return None if found is None else float(found.state.tensors["flow.weight"][0])
