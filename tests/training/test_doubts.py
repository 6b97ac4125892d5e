"""What a run should be doubted for: each doubt where there is a reason, and none where there is none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from forked import flowbench

from flowbench import flows
from flowbench.data import Dataset, TableOptions, load
from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.training import doubts as module
from flowbench.training.doubts import doubts

TIED = 0.123456789


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(2000, 2)), columns=["a", "b"])
    frame.loc[random.random(2000) < 0.3, "b"] = TIED
    frame.to_csv(tmp_path / "t.csv", index=False)
    return load(str(tmp_path / "t.csv"), table_options=TableOptions(allow_ties=("b",)))


@pytest.fixture
def flow() -> Flow:
    return flows.build("maf", 2, flows.load("maf").Options(hidden=(4,))).eval()


def test_a_run_as_it_should_be_has_none(flow: Flow, dataset: Dataset) -> None:
    lls = dataset.gaussian_lls + 0.1
    mean = float(lls.mean())
    assert doubts(flow, dataset, mean + 0.01, mean - 0.01, lls) == ()
    assert doubts(flow, dataset, None, None, lls) == ()
    assert doubts(flow, dataset, None, None, np.full_like(lls, -np.inf)) == ()  # a check says that


def test_a_flow_below_the_gaussian(flow: Flow, dataset: Dataset) -> None:
    (found,) = doubts(flow, dataset, None, None, dataset.gaussian_lls - 0.5)
    assert "0.500 ± 0.000 nats below a Gaussian" in found
    noise = np.random.default_rng(0).normal(size=len(dataset.test))
    assert (
        doubts(flow, dataset, None, None, dataset.gaussian_lls + noise - noise.mean() - 0.02) == ()
    )  # within its error


def test_what_is_remarked_on_in_a_table_is_a_doubt_and_so_is_a_singular_covariance(
    flow: Flow, dataset: Dataset
) -> None:
    lls = dataset.gaussian_lls
    remarked = dataclasses.replace(dataset, remarks=("column 'a' has heavy tails",))
    assert doubts(flow, remarked, None, None, lls + 0.1) == remarked.remarks
    train = np.array(dataset.train)
    train[:, 1] = train[:, 0]
    (found,) = doubts(flow, dataclasses.replace(dataset, train=train, stored=None), None, None, lls)
    assert "is singular" in found
    assert "can grow without bound" in found


def test_rows_that_are_known_by_heart(flow: Flow, dataset: Dataset) -> None:
    lls = dataset.gaussian_lls
    error = lls.std(ddof=1) / len(dataset.validation) ** 0.5
    mean = float(lls.mean())
    assert doubts(flow, dataset, mean + 4.9 * error, mean, lls) == ()
    (found,) = doubts(flow, dataset, mean + 5.1 * error, mean, lls)
    assert "by heart" in found


@pytest.mark.parametrize(("sign", "word"), [(1, "below"), (-1, "above")])
def test_rows_of_another_kind(flow: Flow, dataset: Dataset, sign: int, word: str) -> None:
    lls = dataset.gaussian_lls
    error = lls.std(ddof=1) * (1 / len(dataset.validation) + 1 / len(lls)) ** 0.5
    mean = float(lls.mean())
    assert doubts(flow, dataset, None, mean + sign * 4.9 * error, lls) == ()
    (found,) = doubts(flow, dataset, None, mean + sign * 5.1 * error, lls)
    assert f"nats {word} validation rows" in found


def test_a_spike_on_values_that_come_again(flow: Flow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tied = np.float32(pd.Series(dataset.train[:, 1]).mode()[0])
    heights = {0.8: 0, 1.2: 1}
    for height, count in heights.items():

        def narrow(flow: Flow, rows: Rows, height: float = height) -> np.ndarray:
            assert isinstance(rows, torch.Tensor)
            return np.where(rows[:, 1].numpy() == tied, height, 0.0)

        monkeypatch.setattr(module, "log_likelihoods", narrow)
        found = doubts(flow, dataset, None, None, dataset.gaussian_lls)
        assert len(found) == count
    assert "column 'b' has values that come again" in found[0]
    assert "1.2 nats lower" in found[0]


def test_a_bad_run_says_so_at_its_end_and_in_its_record(tmp_path: Path) -> None:
    arguments = ["train", "maf", "--data", "truth-gaussian", "--max-epochs", "0", "--json", "--out", str(tmp_path)]
    done = flowbench(*arguments)
    assert done.returncode == 0, done.stderr
    (said,) = json.loads(done.stdout)["doubts"]
    assert "nats below a Gaussian" in said
    assert "nats below a Gaussian" in " ".join(done.stderr.split())
