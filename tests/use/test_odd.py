"""What is odd of a row: of scanned digits with ink where there hardly ever is any, the row and the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from flowbench import data
from flowbench.cli.log_prob import log_prob
from flowbench.training.carry_out import carry_out
from flowbench.training.order import How, Order
from flowbench.use import trained
from flowbench.use.trained import Trained

PLANTED, INK = 20, 16
RARE = 0.02
"""Of the training rows, those that have ink in a pixel where it is planted, at the most."""


def run(flow: str, folder: Path) -> Path:
    """The weights of a few seconds' training."""
    settings = {"max_epochs": {"made-mog": 12, "maf": 30}[flow], "warmup_steps": 0}
    order = Order(flow=flow, data="digits", device="cpu", settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowbench.training.run.time_flow", lambda flow, rows: [])  # two seconds
        return trained.find(carry_out(order, folder, How()).run, folder)


def pixels(of: Trained, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    return of.density.transform.inverse(torch.from_numpy(np.float64(rows)))[0].numpy()


@pytest.mark.parametrize("flow", ["made-mog", "maf"])
def test_spoilt_digits_are_the_lowest_and_their_pixels_are_named(flow: str, tmp_path: Path) -> None:
    weights = run(flow, tmp_path / "results")
    model, digits = trained.load(weights), data.load("digits")
    train, test = pixels(model, digits.train), pixels(model, digits.test)
    rng = np.random.default_rng(0)
    dark = np.flatnonzero((train > 0).mean(axis=0) < RARE)
    rows, columns = rng.choice(len(test), PLANTED, replace=False), rng.choice(dark, PLANTED)
    test[rows, columns] = INK
    frame = pd.DataFrame(test, columns=[f"pixel {i}" for i in range(64)])
    frame.insert(7, "who", [f"digit {i}" for i in range(len(test))])
    frame.to_csv(tmp_path / "spoilt.csv", index=False)
    log_prob(
        str(weights), str(tmp_path / "spoilt.csv"), tmp_path / "odd.parquet", "cpu", id_column="who", lowest=PLANTED
    )
    found = pd.read_parquet(tmp_path / "odd.parquet").set_index("who")
    planted = {f"digit {row}": f"pixel {column}" for row, column in zip(rows, columns, strict=True)}
    assert len(set(found.index) & set(planted)) >= 18
    assert sum(planted.get(name) == column for name, column in found["odd_column"].items()) >= 15
    if flow == "made-mog":
        terms = found.filter(like="log_prob_")
        assert terms.shape == (PLANTED, 64)
        np.testing.assert_allclose(terms.sum(axis=1), found["log_prob"], rtol=1e-4)
