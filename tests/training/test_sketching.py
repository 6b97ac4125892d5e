"""The sketch of a trained flow, of whatever flow and data there are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flow_cases import shaken
from sketching_cases import drawn, of_rows, rows_of, sketched
from table_cases import loaded

from flowbench import flows
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Standardise
from flowbench.flows import Flow
from flowbench.flows.core.given import Given
from flowbench.results import store
from flowbench.results.sketch import Marginal
from flowbench.training import sketching
from flowbench.training.histograms import evenly_spread
from flowbench.training.sketching import counts, sketch_seconds
from flowbench.transforms import Permutation, Undirected


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("name", flows.names())
def test_every_flow_has_one(name: str, dim: int) -> None:
    flow = shaken(name, dim)
    dataset, before = of_rows(drawn(flow, 500)), torch.get_rng_state()
    found = sketched(flow, dataset)
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.n_rows, found.n_samples, len(found.rows), len(found.samples)) == (500, 2000, 200, 200)
    assert [each.column for each in found.marginals] == found.paired == list(range(dim))
    assert all(sum(each.rows) == 500 and sum(each.samples) == 2000 for each in found.marginals)
    assert max(each.distance for each in found.marginals) < 0.09  # rows are the flow's own; 0.001 in chance
    assert len(found.calibration) == len(found.calibration_distances) == (dim if flow.bijective else 0)
    assert all(each.distance < 0.09 and sum(each.counts) == 500 for each in found.calibration)
    assert (found.uncalibrated is None) == flow.bijective
    assert found.log_densities is not None
    assert sum(found.log_densities.rows) == 500
    assert [each.nats for each in found.least_likely] == sorted(each.nats or 0 for each in found.least_likely)
    assert sketched(flow, dataset) == found
    assert sketch_seconds(flow, torch.from_numpy(np.array(dataset.test)), lambda work: (work(), 0.5)[1]) >= 0.5


@pytest.mark.parametrize(
    ("name", "settings", "exact"),
    [
        ("made", {}, True),
        ("made", {"order": "random"}, True),
        ("made-mog", {"order": "random"}, True),
        ("resmade-mog", {"whiten": True, "order": "random"}, True),
        ("maf", {"transforms": 1}, True),
        ("iaf", {"transforms": 1}, True),
        ("gaussian", {}, True),
        ("maf", {"transforms": 2}, False),
        ("maf", {"transforms": 2, "between": "lu"}, False),
        ("realnvp", {}, False),
    ],
)
def test_column_i_of_noise_is_the_conditional_s_own(name: str, settings: dict[str, Any], exact: bool) -> None:
    flow = shaken(name, 5, **settings)
    rows = drawn(flow)
    assert sketched(flow, of_rows(rows)).exact is exact
    if exact:  # a column which no other one depends on is the only one that is wrong if it is
        order = list(range(5))
        for leaf, _ in flow.transform.leaves():
            order = leaf.order.tolist() if isinstance(leaf, Permutation) else order
        rows[:, order[-1]] += 3 * rows[:, order[-1]].std()
        wrong = np.array(sketched(flow, of_rows(rows)).calibration_distances) > 0.05
        assert np.flatnonzero(wrong).tolist() == [order[-1]]


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (shaken("made", 3, orders=2), "a mean of several densities"),
        (shaken("kde", 3), "no map of rows to noise"),
    ],
)
def test_why_there_is_no_calibration_is_said(flow: Flow, said: str) -> None:
    found = sketched(flow, of_rows(drawn(flow, 50)))
    assert said in str(found.uncalibrated)
    assert not found.exact


@pytest.mark.parametrize("dim", [1, 4])
def test_one_test_row_is_enough(dim: int) -> None:
    flow = shaken("maf", dim)
    found = sketched(flow, of_rows(drawn(flow, 1)))
    assert (found.n_rows, found.n_samples) == (1, 2000)
    assert [each.sd for each in found.calibration] == [None] * dim
    assert len(found.least_likely) == len(found.most_likely) == 1


class Scripted(Flow):
    """Draws what it is told to, beside what it is given."""

    def __init__(self, draws: torch.Tensor, given: Given | None = None) -> None:
        super().__init__(draws.shape[1], Permutation(torch.arange(draws.shape[1])), given=given)
        self.register_buffer("told", draws)

    def drawn(self, noise: torch.Tensor, given: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self.told[: noise.shape[1]] if given is None else torch.cat([given, given], 1)
        return rows, rows.sum(1)


def test_what_is_not_finite_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    draws = torch.randn(2000, 2)
    draws[3, 0], draws[5, 1] = math.nan, -math.inf
    rows = np.random.default_rng(0).standard_cauchy((300, 2)) ** 3
    rows[0] = 1e30
    lls = np.linspace(-9, 0, 300)
    lls[7], lls[8], lls[9] = math.nan, -math.inf, -1e300
    found = sketched(Scripted(draws), of_rows(rows), lls)
    assert found.n_samples == 2000 - 2 * 5  # two in each part that is drawn
    assert "10 of 2,000 samples are not finite" in capsys.readouterr().err
    assert [each.row for each in found.least_likely[:3]] == [7, 8, 9]
    assert [each.nats for each in found.least_likely[:3]] == [None, None, None]
    assert found.most_likely[0].row == 299
    assert found.log_densities is not None
    assert sum(found.log_densities.rows) == 299  # −∞ lies below, too


def test_noise_that_is_not_finite_is_far_out() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 2))
    rows[:25, 1], rows[25:50, 1] = np.nan, np.inf
    found = sketched(Scripted(torch.zeros(2000, 2)), of_rows(rows), np.zeros(100))
    assert found.calibration[1].counts[-1] >= 50
    assert found.calibration_distances[1] == pytest.approx(0.5, abs=0.1)
    assert found.calibration_distances[0] < 0.2


def test_samples_are_given_what_test_rows_are() -> None:
    column = GivenColumn(name="when")
    rows = np.repeat(np.arange(8000.0)[:, None], 2, 1)  # test rows in the order of time
    flow = Scripted(torch.zeros(2000, 1), Given((0,)))
    found = sketched(flow, of_rows(rows, given=(column,)), np.zeros(8000))
    assert found.marginals[0].distance < 0.002
    assert found.samples == found.rows  # each given what the row beside it is


def test_runs_on_the_same_data_have_the_same_bins() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    one, other = (sketched(shaken(name, 3), of_rows(rows)) for name in ("maf", "gmm"))
    assert [(each.low, each.high, each.rows) for each in one.marginals] == [
        (each.low, each.high, each.rows) for each in other.marginals
    ]
    assert one.rows == other.rows
    assert one.samples != other.samples


def test_values_are_in_the_data_s_own_units_and_as_fine_as_they_differ() -> None:
    when = Standardise(location=(1.7e9, 0.0, -3.0), scale=(1000.0, 1e-6, 1.0))
    flow, rows = shaken("gaussian", 3), np.random.default_rng(0).normal(size=(500, 3))
    rows[17] = 9.0
    found = sketched(flow, of_rows(rows, preprocessing=(when,), columns=("when", "tiny", "plain")))
    assert found.least_likely[0].row == 17
    assert found.least_likely[0].values == pytest.approx([1.7e9 + 9000, 9e-6, 6.0])
    assert found.units == "the data's own units"
    low, high = found.marginals[0].low, found.marginals[0].high
    assert low is not None
    assert high is not None
    assert (high - low) / 1000 == pytest.approx(5.7, abs=1)
    cells = np.array(found.rows, dtype=float)
    at = evenly_spread(500, 500)[:200]
    np.testing.assert_allclose(cells[:, 0], 1.7e9 + 1000 * rows[at, 0], rtol=0, atol=0.1)
    np.testing.assert_allclose(cells[:, 1], 1e-6 * rows[at, 1], rtol=0, atol=1e-10)
    assert sketched(flow, of_rows(rows, preprocessing=None)).units == "raw space"


def test_classes_atoms_and_missing_values_have_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    amount = np.where(rng.random(400) < 0.3, 0.0, rng.normal(5, 1, 400))
    amount[rng.random(400) < 0.1] = np.nan
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], 400), "amount": amount, "height": rng.normal(size=400)})
    dataset = loaded(
        tmp_path, frame, test_fraction=0.4, kinds={"sex": "category", "amount": "mixed"}, missing="indicator"
    )
    torch.manual_seed(0)
    module = flows.load("made")
    flow = flows.build("made", dataset.dim, module.Options(hidden=(8,)), dataset.classes, dataset.discrete)
    rows = [torch.from_numpy(np.array(part)) for part in (dataset.train, dataset.validation)]
    flow.fit_closed_form(*rows)
    found = sketched(flow.eval(), dataset)
    assert found.columns == ["sex", "amount", "height"]
    raw = frame[-found.n_rows :]
    by_label = {each.column: dict(zip(each.labels, each.rows, strict=True)) for each in found.marginals if each.labels}
    assert by_label[0] == raw["sex"].value_counts().to_dict()
    missing, zeros = int(raw["amount"].isna().sum()), int((raw["amount"] == 0).sum())
    assert (by_label[1]["missing"], by_label[1]["0"]) == (missing, zeros)
    numbers = {each.column: sum(each.rows) for each in found.marginals if each.labels is None}
    assert numbers == {1: found.n_rows - missing - zeros, 2: found.n_rows}
    assert found.paired == [1, 2]
    assert [None in row for row in found.rows].count(True) == missing
    assert all(len(each.values) == len(found.marginals) for each in found.least_likely)
    assert "discrete" in str(found.uncalibrated)


def test_of_many_columns_a_few_are_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sketching, "MOST_NAMED", 100)
    monkeypatch.setattr(sketching, "MOST_TEST_VALUES", 150 * 60)
    flow = shaken("realnvp", 150, transforms=1)
    dataset = of_rows(np.random.default_rng(0).normal(size=(300, 150)))
    found = sketched(flow, dataset)
    assert (found.n_rows, len(found.columns), len(found.marginals)) == (60, 100, 64)
    assert found.marginals[0].column == 0
    assert 97 <= found.marginals[-1].column < 100
    assert len(found.calibration) == 64
    monkeypatch.setattr(sketching, "MOST_SAMPLED_COLUMNS", 149)
    found = sketched(flow, dataset)
    assert (found.n_samples, found.samples) == (0, [])
    assert "the sketch has no samples" in capsys.readouterr().err


def test_samples_that_take_long_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = shaken("maf", 2)
    whole = sketched(flow, dataset := of_rows(drawn(flow, 50)))
    monkeypatch.setattr(sketching, "SAMPLING_SECONDS", 0.0)
    found = sketched(flow, dataset)
    assert found.n_samples == sketching.FIRST_SAMPLES
    np.testing.assert_allclose(found.samples, whole.samples[: found.n_samples], atol=1e-3)  # and they are the same


def test_marginals_are_of_the_test_rows() -> None:
    rows = np.array([[0.0], [1.0], [1.0], [9.0]])
    (found,) = sketched(Scripted(torch.zeros(2000, 1)), of_rows(rows), np.zeros(4)).marginals
    assert isinstance(found, Marginal)
    assert sum(found.rows) == 4
    assert sorted(found.rows)[-3:] == [1, 1, 2]
    assert found.distance == 0.75


def test_a_density_without_noise_is_asked_for_none() -> None:
    class Density(Undirected):
        def density(self, x: torch.Tensor) -> torch.Tensor:
            return -x.square().sum(1)

        def draw(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return noise[0], self.density(noise[0])

    flow = Flow(2, Density())
    flow.transform.draws = 2
    assert "no map" in str(sketched(flow, of_rows(np.zeros((5, 2)))).uncalibrated)


def test_a_conditional_flow_is_given_what_test_rows_are_given() -> None:
    module = flows.load("maf")
    given_columns = (GivenColumn(name="k", labels=("p", "q", "r")),)
    flow = flows.build("maf", 2, module.Options.model_validate({"hidden": (8,)}), (3,), None).eval()
    rows = rows_of(90, 3)
    rows[:, 0] = np.arange(90) % 3
    found = sketched(flow, of_rows(rows, given=given_columns, columns=("a", "b")))
    assert found.columns == ["a", "b"]
    assert found.n_samples == counts(3, 90)[1]
    assert len(found.calibration) == 2


def test_it_looks_at_as_many_rows_as_there_is_time_for() -> None:
    assert counts(6, 10**6) == (10_000, 2_000)
    assert counts(784, 10_000) == (2_551, 510)
    assert counts(3, 1) == (1, 2_000)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_keeps_it_if_it_may(wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowbench.cli import app

    arguments = ["flowbench", "train", "gaussian", "--data", "truth-banana", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments + ([] if wanted else ["--no-sketch"]))
    with pytest.raises(SystemExit):
        app.main()
    (record,) = store.read_all(tmp_path).values()
    found = store.read_sketch(record, tmp_path)
    assert (found is not None) == wanted
    assert len(list(tmp_path.glob("*.sketch"))) == wanted
