"""What of a table is given: its codes and units, its yardstick, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flowbench.data import Dataset, TableOptions, load
from flowbench.data.gaussian import gaussian_ll
from flowbench.data.tables import spool as table_spool
from flowbench.errors import DataError, FlowbenchError, UsageError

N = 400
RNG = np.random.RandomState(0)
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(3, 2, N),
        "site": RNG.choice(["west", "north", "south"], N),
        "b": RNG.normal(size=N),
        "depth": RNG.normal(1e6, 3, N),
        "grade": RNG.choice([2, 10, 9], N),
    }
)
GIVEN = ("site", "depth", "grade")


@pytest.fixture(autouse=True)
def _prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table_spool, "CHUNK_VALUES", 100)


def loaded(folder: Path, frame: pd.DataFrame = FRAME, kind: str = "csv", **options: object) -> Dataset:
    path = folder / f"t.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path, index=False)
    table = TableOptions(**{"given": GIVEN, "classes": ("grade",), "split": "time"} | options)  # type: ignore[arg-type]
    return load(str(path), table_options=table)


def refusal(folder: Path, kind: type[FlowbenchError], frame: pd.DataFrame = FRAME, **options: object) -> str:
    with pytest.raises(kind) as caught:
        loaded(folder, frame, **options)
    return f"{caught.value} ({caught.value.hint})"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_is_given_stands_first_as_numbers_and_codes(tmp_path: Path, kind: str) -> None:
    for data in (loaded(tmp_path, kind=kind), loaded(tmp_path, kind=kind)):  # made, and from the cache
        site, depth, grade = data.given
        assert (data.dim, data.columns, data.classes) == (2, ("a", "b"), (3, 0, 3))
        assert (site.labels, depth.labels, grade.labels) == (("north", "south", "west"), (), ("2", "9", "10"))
        test = FRAME.iloc[-40:]
        np.testing.assert_array_equal(np.array(site.labels)[data.test[:, 0].astype(int)], test["site"])
        np.testing.assert_array_equal(np.array(grade.labels).astype(int)[data.test[:, 2].astype(int)], test["grade"])
        np.testing.assert_allclose(data.test[:, 1], (test["depth"] - depth.location) / depth.scale, atol=1e-6)
        assert data.train[:, 1].mean() == pytest.approx(0, abs=1e-5)


def test_modelled_columns_are_as_they_are_without_what_is_given(tmp_path: Path) -> None:
    frame = FRAME.assign(n=RNG.poisson(3, N))
    given = loaded(tmp_path, frame, columns=("a", "b", "n"), dequantise=True)
    without = loaded(tmp_path, frame, columns=("a", "b", "n"), dequantise=True, given=(), classes=())
    assert given.columns == without.columns
    for part in ("train", "validation", "test"):
        np.testing.assert_allclose(getattr(given, part)[:, 3:], getattr(without, part), atol=1e-6)  # the noise, too
    assert given.fingerprint != without.fingerprint


def test_missing_values_of_what_is_given_are_refused_or_left_out(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[5, "site"], frame.loc[7, "depth"] = None, np.nan
    assert "'site', which is given, has a missing value in row 6" in refusal(tmp_path, DataError, frame)
    assert sum(loaded(tmp_path, frame, missing="drop").rows) == N - 2
    frame.loc[9, "depth"] = np.inf
    assert "an infinite value in row 10" in refusal(tmp_path, DataError, frame, missing="drop")


def test_a_class_that_training_rows_lack_is_refused_by_its_name(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[N - 1, "site"] = "east"
    assert "column 'site' has the class 'east' in no training row" in refusal(tmp_path, DataError, frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"given": ("sit",)}, "no column 'sit'"),
        ({"given": ("site", "site"), "classes": ()}, "--given names one column twice"),
        ({"given": ("site",), "classes": (), "columns": ("a", "site")}, "is given, so it is not modelled"),
        ({"given": ("site",), "classes": (), "drop_columns": ("site",)}, "leave it out of --drop-columns"),
        ({"given": ("site",), "classes": ("grade",)}, "'grade' is not given"),
        ({"given": tuple(FRAME), "classes": ()}, "is left to model"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    assert message in refusal(tmp_path, UsageError, **options)


def test_the_yardstick_is_a_gaussian_whose_mean_is_linear_in_what_is_given() -> None:
    rng = np.random.RandomState(1)
    code, number, constant = rng.randint(3, size=(2000, 1)), rng.normal(size=(2000, 1)), np.ones((2000, 1))
    mean = np.array([[-4.0, 0.0], [1.0, 2.0], [5.0, -1.0]])[code[:, 0]] + number * [[2.0, -1.0]]
    x = mean + rng.normal(size=(2000, 2)) @ [[1.0, 0.3], [0.0, 0.5]]
    # the constant does not vary, and the second number follows from the first
    rows = np.concatenate([code, number, constant, 3 * number, x], axis=1).astype(np.float32)
    found = gaussian_ll(rows, rows[:50], classes=(3, 0, 1, 0))
    design = np.concatenate([np.eye(3)[code[:, 0]], number], axis=1)
    left = x - design @ np.linalg.lstsq(design, x)[0]
    expected = stats.multivariate_normal(np.zeros(2), left.T @ left / len(left)).logpdf(left[:50])
    np.testing.assert_allclose(found, expected, atol=1e-4)
