"""FlowDensity: scikit-learn's own contract, and densities in the units of what it was given."""

from __future__ import annotations

import doctest
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import flowbench
from flowbench import FlowDensity, flows
from flowbench.data import load
from flowbench.data.preprocessing import Standardise
from flowbench.errors import DataError
from flowbench.use import estimator

SMALL: dict[str, Any] = {"max_epochs": 2, "random_state": 0}
SMALL_MAF: dict[str, Any] = SMALL | {"hidden": 8, "transforms": 2}


def rows(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Two correlated columns, far from zero and of unlike spread."""
    normal = np.random.RandomState(seed).normal(size=(n, 2))
    return normal @ [[1e-3, 20.0], [0.0, 40.0]] + [5.0, -300.0]


@pytest.mark.parametrize("flow", flows.names())
def test_scikit_learns_own_checks(flow: str) -> None:
    known = flows.load(flow).Options.model_fields
    sizes = {name: size for name, size in {"hidden": 8, "transforms": 2}.items() if name in known}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X: .*heavy ties")  # some of its data are whole numbers
        done = check_estimator(FlowDensity(flow, max_epochs=1, **sizes), on_skip=None)
    assert sum(check["status"] == "passed" for check in done) > 30


def test_a_density_in_own_units_is_the_standardised_one_and_its_jacobian() -> None:
    x = rows(2000)
    density = FlowDensity("gaussian", **SMALL).fit(x)
    kept = density.density_
    (step,) = kept.preprocessing
    assert isinstance(step, Standardise)
    standardised = torch.from_numpy((x - step.location) / step.scale)
    expected = kept.flow(standardised).numpy() - np.log(step.scale).sum()
    np.testing.assert_allclose(density.score_samples(x), expected, rtol=1e-12)
    truth = stats.multivariate_normal([5, -300], [[1e-6, 2e-2], [2e-2, 2000]]).logpdf(x)
    assert abs((truth - density.score_samples(x)).mean()) < 0.01
    assert density.score(x) == pytest.approx(density.score_samples(x).mean())
    assert density.validation_log_likelihood_ == pytest.approx(truth.mean(), abs=0.5)


@pytest.mark.parametrize("flow", ["maf", "iaf", "realnvp"])
def test_a_density_in_own_units_integrates_to_one(flow: str) -> None:
    density = FlowDensity(flow, **SMALL_MAF | {"max_epochs": 5}).fit(rows(2000))
    (step,) = density.density_.preprocessing
    assert isinstance(step, Standardise)
    axes = [np.linspace(m - 12 * s, m + 12 * s, 601) for m, s in zip(step.location, step.scale, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(density.score_samples(grid)).sum() * cell == pytest.approx(1, abs=2e-3)


def test_samples_are_in_own_units_and_their_seeds() -> None:
    x = rows(5000)
    density = FlowDensity("gaussian", **SMALL).fit(x)
    drawn = density.sample(20_000, random_state=1)
    assert drawn.shape == (20_000, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), x.mean(axis=0), atol=5 * x.std(axis=0).max() / 5000**0.5)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), rtol=0.1)
    np.testing.assert_array_equal(drawn, density.sample(20_000, random_state=1))
    assert not np.array_equal(drawn, density.sample(20_000, random_state=2))
    np.testing.assert_allclose(density.sample(3, random_state=1), drawn[:3], rtol=1e-12)
    with pytest.raises(ValueError, match="n_samples"):
        density.sample(0)


def test_a_fit_is_its_random_state_and_leaves_torchs_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (FlowDensity(**SMALL_MAF | {"random_state": s}).fit(rows(200)) for s in (3, 3, 4))
    first.sample(5)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first.score_samples(rows(9)), again.score_samples(rows(9)))
    assert not np.array_equal(first.score_samples(rows(9)), other.score_samples(rows(9)))


def test_a_pickle_is_the_same_density() -> None:
    density = FlowDensity(**SMALL_MAF).fit(rows(200))
    again = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(again.score_samples(rows(9)), density.score_samples(rows(9)))
    np.testing.assert_array_equal(again.sample(9, 0), density.sample(9, 0))


def test_the_best_epoch_is_kept() -> None:
    options = {"warmup_steps": 0, "schedule": "constant", "plateau": None}
    settings: dict[str, Any] = SMALL_MAF | {"learning_rate": 0.1, "options": options}
    density = FlowDensity(**settings | {"max_epochs": 12}).fit(rows(500))
    best = density.best_epoch_
    assert best < density.n_epochs_ == 12
    until_then = FlowDensity(**settings | {"max_epochs": best}).fit(rows(500))
    np.testing.assert_array_equal(density.score_samples(rows(9)), until_then.score_samples(rows(9)))


def test_a_row_far_out_has_a_density() -> None:
    density = FlowDensity(**SMALL_MAF).fit(rows(200))
    far = density.score_samples(np.array([[1e30, 0.0], [5.0, -300.0]]))
    assert np.isfinite(far).all()
    assert far[0] < -1e50


def test_in_a_pipeline_with_names_and_in_a_search() -> None:
    frame = pd.DataFrame(rows(300), columns=["a", "b"])
    pipeline = make_pipeline(StandardScaler(), FlowDensity(**SMALL_MAF)).fit(frame)
    assert np.isfinite(pipeline.score_samples(frame)).all()
    density = FlowDensity("gaussian", **SMALL).fit(frame)
    assert list(density.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        density.score_samples(frame.rename(columns={"b": "c"}))
    search = GridSearchCV(FlowDensity(**SMALL), {"flow": ["gaussian", "realnvp"]}, cv=3).fit(frame)
    assert search.best_params_ == {"flow": "gaussian"}  # two epochs are too few for the other
    assert search.best_score_ == pytest.approx(density.score(frame), abs=0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": "mav"}, "did you mean maf"),
        ({"hidden": 0}, "hidden"),
        ({"flow": "gaussian", "hidden": 8}, "no setting 'hidden'"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"options": {"batch_nrom": False}}, "did you mean batch_norm"),
        ({"hidden": 8, "options": {"hidden": 9}}, "hidden is given twice"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"device": "gpu"}, "unknown device"),
    ],
)
def test_a_wrong_setting_is_refused_by_fit_and_by_name(settings: dict[str, Any], message: str) -> None:
    density = clone(FlowDensity(**settings))
    with pytest.raises(ValueError, match=message):
        density.fit(rows(50))


def test_constant_columns_are_named() -> None:
    frame = pd.DataFrame(rows(50), columns=["a", "b"]).assign(c=1.0, d=2.0)
    with pytest.raises(ValueError, match=r"'c' is constant \(1\), 'd' is constant \(2\).*leave such columns out"):
        FlowDensity("gaussian").fit(frame)
    with pytest.raises(ValueError, match="column '2' is constant"):
        FlowDensity("gaussian").fit(frame.to_numpy())


def test_what_the_command_line_refuses_is_refused_in_the_same_words(tmp_path: Path) -> None:
    column = rows(50)[:, :1]
    for unfit in (np.hstack([column, -3 * column]), rows(9), rows(2), np.hstack([column, column * 0 + 1])):
        pd.DataFrame(unfit, columns=["0", "1"]).to_csv(tmp_path / "X.csv", index=False)
        with pytest.raises(DataError) as refused:
            load(str(tmp_path / "X.csv"))
        words = str(refused.value).replace(str(tmp_path / "X.csv"), "X")
        with pytest.raises(ValueError, match=re.escape(words)):
            FlowDensity("gaussian").fit(unfit)


def test_whole_numbers_and_ties_are_warned_of_or_given_noise(tmp_path: Path) -> None:
    """The density over a step is the value's probability, and draws are values."""
    random = np.random.RandomState(0)
    frame = pd.DataFrame(
        {"a": random.normal(size=5000), "n": random.poisson(100, 5000), "p": random.randint(0, 9, 5000) / 4}
    )
    frame.to_csv(tmp_path / "X.csv", index=False)
    with pytest.raises(DataError) as refused:
        load(str(tmp_path / "X.csv"))
    words = str(refused.value).replace(str(tmp_path / "X.csv"), "X")
    assert "columns 'n', 'p' have" in words
    with pytest.warns(UserWarning, match=re.escape(words) + ".*dequantise=True"):
        FlowDensity("gaussian").fit(frame)
    density = FlowDensity("gaussian", dequantise=True, random_state=0).fit(frame[["n"]])
    assert np.exp(density.score_samples(pd.DataFrame({"n": np.arange(250)}))).sum() == pytest.approx(1, abs=1e-6)
    drawn = FlowDensity("gaussian", dequantise=True, random_state=0).fit(frame).sample(1000, random_state=0)
    np.testing.assert_array_equal(drawn[:, 1:] * [1, 4], np.floor(drawn[:, 1:] * [1, 4]))
    assert drawn[:, 1].mean() == pytest.approx(100, abs=2)
    assert not np.array_equal(drawn[:, 0], np.floor(drawn[:, 0]))


def test_ties_without_a_step_are_no_density_with_noise_either() -> None:
    tied = np.r_[np.zeros(50), np.random.RandomState(0).normal(size=50)][:, None]
    with pytest.raises(ValueError, match="not multiples of any step"):
        FlowDensity("gaussian", dequantise=True).fit(tied)
    with pytest.raises(ValueError, match="not multiples of any step"):
        FlowDensity("gaussian").fit(tied)
    FlowDensity("gaussian", allow_ties=[0]).fit(tied)


def test_the_example_runs() -> None:
    found = doctest.testmod(estimator, extraglobs={"FlowDensity": FlowDensity})
    assert found.attempted > 3
    assert found.failed == 0


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-320])
def test_columns_beyond_floating_point_are_named(size: float) -> None:
    fine = np.random.RandomState(0).normal(size=50)
    X = pd.DataFrame({"fine": fine, "far": np.linspace(-1, 1, 50) * size})  # noqa: N806
    with pytest.raises(ValueError, match="column 'far' has values or a spread beyond floating point"):
        FlowDensity(max_epochs=1).fit(X)


def test_importing_flowbench_is_light_and_has_no_other_names() -> None:
    program = (
        "import sys, flowbench\n"
        "assert not {'torch', 'sklearn'} & set(sys.modules)\n"
        "from flowbench import FlowDensity\n"
        "assert {'torch', 'sklearn'} <= set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="FlowDensitty"):
        _ = flowbench.FlowDensitty
