"""One seed, a stream of random numbers for each use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowbench import data, flows
from flowbench.seeds import stream
from flowbench.training.loop import Fit
from flowbench.training.objective import MaximumLikelihood
from flowbench.training.order import Order

USES = ("split", "noise", "initialisation", "shuffling")


def test_streams_differ_by_use_and_by_seed() -> None:
    found = [stream(seed, use) for seed in range(50) for use in USES]  # type: ignore[arg-type]
    assert len(set(found)) == 200
    assert not set(found) & set(range(1000))  # none is a seed that somebody takes
    assert all(0 <= value < 2**64 for value in found)


def test_a_stream_is_the_same_for_ever() -> None:
    assert [stream(0, use) for use in USES] == [  # type: ignore[arg-type]
        8668861027912758289,
        4881901421217228719,
        16452687389592421897,
        13238389300853459902,
    ]
    assert stream(2**32 - 1, "shuffling") == 9353105571444503942


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """With a column of whole numbers, which noise is added to."""
    generator = np.random.default_rng(0)
    values = np.column_stack([generator.normal(size=200), generator.integers(0, 50, 200)])
    np.savetxt(tmp_path / "mine.csv", values, delimiter=",", header="a,b", comments="")
    return tmp_path / "mine.csv"


def parts(table: Path, **seeds: Any) -> dict[str, Any]:
    """What a run's random numbers decide, each on its own."""
    options = data.TableOptions(dequantise=True)
    settings = {"hidden": [4], "transforms": 1, "batch_size": 40}
    order = Order(flow="maf", data=str(table), device="cpu", table=options, settings=settings, **seeds)
    config, dataset = order.config(), order.dataset()
    torch.manual_seed(config.stream("initialisation"))
    flow = flows.build(config.flow, dataset.dim, config.model)
    rows = torch.arange(float(len(dataset.train))).repeat(2, 1).T
    fit = Fit(MaximumLikelihood(flow), rows, rows, config.training, config.stream("shuffling"))
    drawn = torch.rand(5, generator=fit._generator).tolist()
    return {
        "initial weights": [value.tolist() for value in flow.state_dict().values()],
        "order": drawn,
        "test rows": np.asarray(dataset.test)[:, 0].tolist(),  # of the column without noise
        "fingerprint": dataset.fingerprint,
        "rows": dataset.rows_sha256,
    }


@pytest.mark.parametrize(
    ("seeds", "changed"),
    [
        ({"seed": 1}, {"initial weights", "order"}),
        ({"init_seed": 1}, {"initial weights"}),
        ({"shuffle_seed": 1}, {"order"}),
        ({"split_seed": 1}, {"test rows", "fingerprint", "rows"}),
        ({"noise_seed": 1}, {"fingerprint", "rows"}),
        ({"init_seed": 0, "shuffle_seed": 0}, set()),
        ({"seed": 7, "init_seed": 0, "shuffle_seed": 0}, set()),
        ({"noise_seed": 0}, set()),
    ],
)
def test_each_seed_changes_its_own_and_nothing_else(seeds: dict[str, int], changed: set[str], table: Path) -> None:
    before, after = parts(table), parts(table, **seeds)
    assert {name for name, value in before.items() if after[name] != value} == changed


def test_five_seeds_of_a_table_are_on_one_split_of_it(table: Path) -> None:
    found = [parts(table, seed=seed) for seed in range(5)]
    assert len({part["fingerprint"] for part in found}) == 1
    assert len({str(part["rows"]) for part in found}) == 1
    assert len({str(part["order"]) for part in found}) == 5


def test_the_seeds_that_are_none_are_the_seed() -> None:
    settings = {"hidden": [4], "transforms": 1}
    config = Order(flow="maf", data="digits", seed=3, device="cpu", settings=settings).config()
    assert config.stream("initialisation") == stream(3, "initialisation")
    assert config.stream("shuffling") == stream(3, "shuffling")
    own = config.model_copy(update={"init_seed": 0, "shuffle_seed": 5})
    assert own.stream("initialisation") == stream(0, "initialisation")  # 0 is a seed too
    assert own.stream("shuffling") == stream(5, "shuffling")
