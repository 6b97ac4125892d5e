"""The sketch of a trained flow, of whatever flow and data there are."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flow_cases import shaken
from PIL import Image
from table_cases import loaded

from flowbench import data, flows
from flowbench.data.dataset import Dataset, Splits
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Logit, Standardise
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.flows.core.given import Given
from flowbench.results import sketch as sketches
from flowbench.results.sketch import BINS, Marginal, Sketch
from flowbench.training import sketching
from flowbench.training.histograms import counted, distance, edges, evenly_spread, step_of
from flowbench.training.pictures import pictures
from flowbench.training.sketching import sketch, sketch_seconds
from flowbench.transforms import Permutation, Undirected


def of_rows(rows: np.ndarray, **about: Any) -> Dataset:
    found = {"preprocessing": (), **about}
    array = rows.astype(np.float32)
    splits = Splits(array[:2].copy(), array[:2].copy(), array, **found)
    return Dataset.of(splits, name="mine", version=1, space="raw", fingerprint="f")


def sketched(flow: Flow, dataset: Dataset, lls: np.ndarray | None = None, seed: int = 1) -> Sketch:
    """The sketch, which is as its file has it."""
    test = torch.from_numpy(np.array(dataset.test))
    found = sketch(flow, dataset, log_likelihoods(flow, test) if lls is None else lls, seed)
    assert Sketch.model_validate_json(sketches.content(found)) == found
    return found


def drawn(flow: Flow, n: int = 3000) -> np.ndarray:
    return flow.sample(n, torch.Generator().manual_seed(0)).detach().numpy()


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
    found = sketched(flow, of_rows(rows, preprocessing=(when,), columns=("when", "tiny", "plain")))
    assert found.units == "the data's own units"
    low, high = found.marginals[0].low, found.marginals[0].high
    assert low is not None
    assert high is not None
    assert (high - low) / 1000 == pytest.approx(5.4, abs=0.8)
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


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_images_are_pictures() -> None:
    dataset = data.load("digits")
    flow = shaken("gaussian", 64).float()
    found = sketched(flow, dataset)
    assert found.units == "pixel levels"
    assert found.images is not None
    assert (found.images.rows.count, found.images.rows.side, found.images.least_likely.count) == (16, 8, 8)
    seen = np.asarray(dataset.test[evenly_spread(179, 179)[1]], np.float64)
    levels = np.floor((1 / (1 + np.exp(-seen)) - 0.01) / 0.98 * 17 + 1e-4)  # as the card says
    np.testing.assert_allclose(pixels(found.images.rows.png)[:8, 9:17], (levels * 255 / 16).round().reshape(8, 8))


def test_patches_have_their_last_pixel_and_stand_apart() -> None:
    dataset = data.load("patches")
    flow = shaken("gaussian", 63).float()
    few = of_rows(np.array(dataset.test[:40]), preprocessing=dataset.preprocessing)
    found = sketched(flow, few)
    assert found.images is not None
    assert len(found.columns) == 64
    assert len(found.calibration_distances) == len(found.calibration) == 63
    assert found.exact
    whole = pixels(found.images.rows.png)
    assert not whole[8].any()  # between two, where a flat patch is grey
    np.testing.assert_allclose(whole[:8, :8].mean(), 128, atol=1)  # but for what is beyond black and white


def test_pictures_are_no_larger_than_may_be() -> None:
    rows = np.random.default_rng(0).uniform(0, 256, (16, 3 * 100 * 100))
    found = pictures((Logit(alpha=0.1, levels=256),), rows=rows, samples=rows, least_likely=rows, most_likely=rows)
    assert found is not None
    assert 0 < found.rows.count < 16
    huge = rows.repeat(16, 1)
    assert pictures((Logit(alpha=0.1, levels=256),), rows=huge, samples=huge) is None


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (np.array([0.0, 1.0] * 9), 0.0),
        (np.arange(40.0), 0.0),
        (np.arange(300.0), 0.0),
        (np.array([3.0]), 0.0),
        (1.7e9 + np.random.default_rng(0).normal(size=99), 0.0),
        (np.array([0.1, 0.2, 0.3] * 9), 0.1),
    ],
)
def test_bins_hold_the_values(values: np.ndarray, step: float) -> None:
    found = edges(values, step_of(values, step))
    assert found is not None
    counts = counted(values, *found)
    assert len(counts) == BINS + 2
    assert sum(counts) == len(values)
    assert counts[0] + counts[-1] <= 0.02 * len(values)
    step = step_of(values, step)
    if step and len(np.unique(values)) <= BINS:  # each in the middle of a bin of its own
        places = (np.unique(values) - found[0]) / (found[1] - found[0]) * BINS % 1
        np.testing.assert_allclose(places, 0.5, atol=0.01)
    elif step:
        assert set(counts[1:30]) == {8}  # as many in each


def test_values_beyond_all_bounds_have_no_bins() -> None:
    assert edges(np.array([0.0, 1e60])) is None
    assert edges(np.array([])) is None
    assert edges(np.array([0.0, 1e308]), 1e-300) is None


def test_distances_are_those_of_scipy() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=500).round(1), np.append(rng.normal(size=300).round(1), np.inf)
    assert distance(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-5)


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
