"""The estimator knows kinds, bounds, missing values and ties, as the command line does."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from flowbench.use.estimator import FlowDensity

N = 1500
SMALL = {"hidden": 16, "transforms": 2, "max_epochs": 3, "random_state": 0}


def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    kind = random.integers(0, 3, N)
    return pd.DataFrame(
        {
            "x": random.normal(size=N) + kind,
            "rain": np.where(random.random(N) < 0.4, 0.0, random.exponential(size=N)),
            "kind": [1.5, 2.0, 7.0] @ np.eye(3)[:, kind],
            "share": random.beta(2, 2, N),
            "seen": np.where(random.random(N) < 0.25, np.nan, random.normal(size=N)),
            "count": random.poisson(3, N),
        }
    )


def fitted(rows: pd.DataFrame | NDArray[np.float64], **options: object) -> FlowDensity:
    kinds = {"rain": "mixed", "kind": "category", "count": "whole"}
    bounds = {"share": (0, 1), "rain": (0, None)}
    return FlowDensity("maf", **{"kinds": kinds, "bounds": bounds, "missing": "indicator", **SMALL} | options).fit(rows)


def test_every_kind_is_scored_and_drawn() -> None:
    rows = frame()
    density = fitted(rows)
    scores = density.score_samples(rows)
    assert np.isfinite(scores).all()
    drawn = pd.DataFrame(density.sample(3000, random_state=0), columns=rows.columns)
    assert set(drawn["kind"]) == {1.5, 2.0, 7.0}
    assert (drawn["rain"] == 0).mean() == pytest.approx(0.4, abs=0.05)
    assert drawn["rain"].min() == 0
    assert drawn["share"].between(0, 1).all()
    assert drawn["seen"].isna().mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_array_equal(drawn["count"], np.floor(drawn["count"]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(density)).score_samples(rows), scores)
    # what is discrete is counted: all classes and atoms of a row sum to the density of its numbers
    one = pd.concat([rows.iloc[[0]]] * 3, ignore_index=True).assign(kind=[1.5, 2.0, 7.0])
    assert np.isfinite(density.score_samples(one)).all()


def test_columns_are_named_by_their_places_too() -> None:
    rows = frame().to_numpy()
    places = {"kinds": {1: "mixed", 2: "category", 5: "whole"}, "bounds": {3: (0, 1), 1: (0, None)}}
    by_place = fitted(rows, **places).score_samples(rows)
    np.testing.assert_allclose(by_place, fitted(frame()).score_samples(frame()))


def test_a_class_that_was_not_there_and_a_value_outside_are_told() -> None:
    rows = frame()
    density = fitted(rows)
    with pytest.raises(ValueError, match="'kind' has a class in row 1 that was not there to fit: 9"):
        density.score_samples(rows.head(2).assign(kind=[2.0, 9.0]))
    assert np.isnan(density.score_samples(rows.head(1).assign(share=1.5)))
    assert np.isfinite(density.score_samples(rows.head(1).assign(share=1.0)))
    with pytest.raises(ValueError, match="outside of its bounds"):
        fitted(rows, bounds={"share": (0, 0.5)})


def test_what_is_not_said_is_refused() -> None:
    rows = frame()
    with pytest.raises(ValueError, match=r"missing|NaN"):
        FlowDensity("maf", **SMALL).fit(rows)
    with pytest.raises(ValueError, match="'rain' has heavy ties"):
        FlowDensity("maf", missing="indicator", dequantise=True, **SMALL).fit(rows)
    FlowDensity("maf", missing="indicator", dequantise=True, allow_ties="all", **SMALL).fit(rows)
    FlowDensity("maf", missing="indicator", dequantise=True, allow_ties=["rain"], **SMALL).fit(rows)
    with pytest.raises(ValueError, match="kinds names columns of X; 'snow' is none"):
        FlowDensity("maf", kinds={"snow": "whole"}, **SMALL).fit(rows[["x"]])
    with pytest.raises(ValueError, match="cannot be of the kind"):
        FlowDensity("maf", kinds={"x": "hole"}, **SMALL).fit(rows[["x", "share"]])
    with pytest.raises(ValueError, match="models numbers alone"):
        FlowDensity("gmm", kinds={"kind": "category"}, random_state=0).fit(rows[["x", "kind"]])


def test_given_columns_go_with_kinds() -> None:
    rows = frame()
    density = fitted(rows, given=["x"])
    drawn = density.sample(5, given=[0.5])
    assert drawn.shape == (5, 6)
    np.testing.assert_array_equal(drawn[:, 0], 0.5)
    assert np.isfinite(density.score_samples(rows)).all()


def test_heavy_tails_are_warned_of_and_brought_in() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"x": random.normal(size=N), "amount": random.lognormal(0, 4, N)})
    with pytest.warns(UserWarning, match=r"'amount' has heavy tails.*column_transforms=\{'amount': 'log'\} may help"):
        plain = FlowDensity("gaussian", random_state=0).fit(rows)
    density = FlowDensity("gaussian", column_transforms={"amount": "log"}, random_state=0).fit(rows)
    by_place = FlowDensity("gaussian", column_transforms={1: "log"}, random_state=0).fit(rows.to_numpy())
    entropy = 0.5 * np.log(2 * np.pi * np.e) * 2 + np.log(4)
    assert density.score(rows) == pytest.approx(-entropy, abs=0.4)
    assert by_place.score(rows.to_numpy()) == pytest.approx(density.score(rows))
    assert density.score(rows) > plain.score(rows) + 5
    drawn = density.sample(2000, random_state=0)
    assert (drawn[:, 1] > 0).all()
    assert np.median(drawn[:, 1]) == pytest.approx(1, rel=0.4)
    assert np.isnan(density.score_samples(rows.head(1).assign(amount=-1.0)))
    with pytest.raises(ValueError, match="column 'amount' has -1 in row 4: there is no logarithm"):
        density.fit(rows.assign(amount=rows["amount"].where(rows.index != 3, -1.0)))
    with pytest.raises(ValueError, match="'x' is given, so it has no kind, no bounds and no transform"):
        FlowDensity("maf", given=["x"], column_transforms={"x": "asinh"}, **SMALL).fit(rows)


def test_what_follows_from_other_columns_is_refused_and_nearly_so_is_warned_of() -> None:
    rows = np.random.default_rng(0).normal(size=(N, 3))
    with pytest.raises(ValueError, match="column '3' follows from '0', '1'"):
        FlowDensity("gaussian").fit(np.c_[rows, rows[:, 0] - rows[:, 1]])
    with pytest.warns(UserWarning, match="column '3' follows from '0', '2', but for"):
        FlowDensity("gaussian").fit(np.c_[rows, rows[:, 0] + rows[:, 2] * (1 + 1e-5 * rows[:, 1])])
