"""Kinds of a table's columns: what is found, what is said, what is refused, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_cases import loaded, refusal

from flowbench.cli.tables import bounds_from, kinds_from
from flowbench.data import TableOptions, load
from flowbench.data.discrete import Atoms, Category
from flowbench.data.preprocessing import Bounded, Dequantise
from flowbench.data.tables import spool as table_spool
from flowbench.data.tables.steps import Steps
from flowbench.errors import UsageError

N = 2000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table_spool, "CHUNK_VALUES", 700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rain = np.where(random.random(N) < 0.4, 0.0, random.exponential(size=N))
    city = np.array(["oslo", "rome", "bonn"])[random.integers(3, size=N)]
    temperature = np.where(random.random(N) < 0.2, np.nan, random.normal(size=N))
    return pd.DataFrame(
        {
            "a": random.normal(size=N),
            "rain": rain,
            "city": city,
            "count": random.poisson(4, N),
            "share": random.beta(2, 2, N),
            "temperature": temperature,
        }
    )


def test_every_kind_at_once(tmp_path: Path) -> None:
    frame = table()
    bounds = {"share": (0.0, 1.0), "rain": (0.0, None)}
    data = loaded(tmp_path, frame, found=True, missing="indicator", bounds=bounds)
    assert data.columns == ("city", "a", "rain", "count", "share", "temperature")
    assert data.discrete is not None
    assert data.discrete.categories == (Category(name="city", labels=("bonn", "oslo", "rome")),)
    assert data.discrete.atoms == (Atoms(column=1, values=(0.0,)), Atoms(column=4, values=(None,)))
    assert data.discrete.classes == (3, 2, 2)
    assert data.dim == 5
    assert data.rows == (1600, 200, 200)
    assert data.dequantised == {"count": 1.0}
    assert data.kinds == {
        "city": "category of 3", "rain": "bounded 0:, apart 0", "share": "bounded 0:1", "temperature": "apart missing",
    }  # fmt: skip
    codes, numbers = np.split(np.concatenate([data.train, data.validation, data.test]), [3], axis=1)
    labels = np.array(["bonn", "oslo", "rome"])[codes[:, 0].astype(int)]
    np.testing.assert_array_equal(labels, frame["city"])
    np.testing.assert_array_equal(codes[:, 1] == 1, frame["rain"] == 0)
    np.testing.assert_array_equal(codes[:, 2] == 1, frame["temperature"].isna())
    for place, absent in ((1, codes[:, 1] == 1), (4, codes[:, 2] == 1)):
        there, noise = numbers[:1600, place][~absent[:1600]], numbers[:1600, place][absent[:1600]]
        assert there.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
        assert there.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
        assert noise.mean() == pytest.approx(0, abs=0.15)
        assert noise.std() == pytest.approx(1, abs=0.15)
    (bounded,) = [step for step in data.preprocessing or () if isinstance(step, Bounded)]
    assert bounded.lower == (None, 0.0, None, 0.0, None)
    assert bounded.upper == (None, None, None, 1.0, None)
    again = loaded(tmp_path, frame, found=True, missing="indicator", bounds=bounds)  # from the cache
    assert again.fingerprint == data.fingerprint
    assert again.discrete == data.discrete
    np.testing.assert_array_equal(again.train, data.train)
    assert np.isfinite(data.gaussian_lls).all()


def test_what_is_not_continuous_is_refused_with_ways_out(tmp_path: Path) -> None:
    frame = table()
    said = refusal(tmp_path, frame[["a", "rain"]])
    assert "'rain' has heavy ties" in said
    assert "--kind rain=mixed" in said
    assert "--allow-ties rain" in said
    said = refusal(tmp_path, frame[["a", "count"]])
    assert "--dequantise" in said
    assert "--kind found" in said
    said = refusal(tmp_path, frame[["a", "temperature"]])
    assert "--missing drop" in said
    assert "--missing indicator" in said
    assert "no few values" in refusal(tmp_path, frame[["a", "share"]], kinds={"a": "mixed"})
    assert "in steps" in refusal(tmp_path, frame[["a", "share"]], likelihood="mass")
    both = refusal(tmp_path, frame[["a", "count"]], likelihood="mass", bounds={"count": (0.0, None)})
    assert "a map of bounds would make unequal" in both


def test_ties_are_allowed_by_name_and_the_record_says_so(tmp_path: Path) -> None:
    frame = table()[["a", "rain", "count"]]
    data = loaded(tmp_path, frame, allow_ties=("rain",), kinds={"count": "whole"})
    assert data.tied == ("rain",)
    assert data.dequantised == {"count": 1.0}
    assert loaded(tmp_path, frame, allow_ties=("all",)).tied == ("rain", "count")
    assert loaded(tmp_path, frame, kinds={"rain": "continuous", "count": "continuous"}).tied == ("rain", "count")
    assert loaded(tmp_path, frame, found=True).tied == ()
    assert "has no column 'snow'" in refusal(tmp_path, frame, UsageError, allow_ties=("snow",))


def test_text_is_a_category_unless_it_names_rows_or_is_mostly_numbers(tmp_path: Path) -> None:
    frame = table()[["a", "city"]]
    data = loaded(tmp_path, frame)
    assert data.discrete is not None
    assert data.discrete.classes == (3,)
    names = frame.assign(city=[f"row {i}" for i in range(N)])
    assert "names rows more than it classes them" in refusal(tmp_path, names)
    numbers = frame.assign(city=["lost" if i == 700 else str(i % 40 / 7) for i in range(N)])
    assert "is not numeric: it holds 'lost' in row 701" in refusal(tmp_path, numbers)
    only = refusal(tmp_path, frame[["city"]])
    assert "no column of numbers" in only
    lacking = frame.assign(city=frame["city"].where(np.arange(N) % 5 > 0))
    said = refusal(tmp_path, lacking)
    assert "column 'city' has a missing value in row 1 |" in said
    assert "--missing indicator" in said
    with_missing = loaded(tmp_path, lacking, missing="indicator").discrete
    assert with_missing is not None
    assert with_missing.categories[0].labels == ("", "bonn", "oslo", "rome")
    assert sum(loaded(tmp_path, lacking, missing="drop").rows) == N * 4 // 5
    rare = frame.assign(city=np.where(np.arange(N) == N - 1, "lima", frame["city"]))  # in a test row alone
    with_rare = loaded(tmp_path, rare).discrete
    assert with_rare is not None
    assert with_rare.classes == (4,)


def test_numbers_can_be_categories(tmp_path: Path) -> None:
    data = loaded(tmp_path, table()[["a", "count"]], kinds={"count": "category"})
    assert data.discrete is not None
    assert data.discrete.categories[0].labels[:3] == ("0", "1", "2")
    assert data.dim == 1


def test_bounds_hold_all_values_and_those_on_them_are_kept_apart_from_infinity(tmp_path: Path) -> None:
    frame = table()[["a", "share"]]
    frame.loc[[3, 7], "share"] = [0.0, 1.0]
    data = loaded(tmp_path, frame, bounds={"share": (0.0, 1.0)})
    assert np.isfinite(data.train).all()
    assert np.abs(data.train).max() < 12
    frame.loc[11, "share"] = 1.25
    said = refusal(tmp_path, frame, bounds={"share": (0.0, 1.0)})
    assert "has 1 values outside of its bounds 0:1" in said
    assert "outside of its bounds :1" in refusal(tmp_path, frame, bounds={"share": (None, 1.0)})


def test_whole_numbers_between_bounds_reach_a_step_beyond_them_with_their_noise(tmp_path: Path) -> None:
    frame = table()[["a", "count"]].assign(count=np.random.default_rng(0).integers(0, 11, N))
    data = loaded(tmp_path, frame, kinds={"count": "whole"}, bounds={"count": (0.0, 10.0)})
    noise, bounded, _ = data.preprocessing or ()
    assert isinstance(noise, Dequantise)
    assert isinstance(bounded, Bounded)
    assert bounded.upper[1] == 11.0
    assert np.isfinite(data.train).all()


def test_masses_are_of_steps_and_have_no_noise(tmp_path: Path) -> None:
    data = loaded(tmp_path, table()[["a", "count"]], likelihood="mass")
    assert data.discrete is not None
    assert data.discrete.steps[0] == 0
    assert data.discrete.steps[1] > 0
    places = (data.train[:, 1] - data.discrete.origins[1]) / data.discrete.steps[1]
    np.testing.assert_allclose(places, np.rint(places), atol=1e-4)
    assert data.dequantised == {}
    assert data.kinds == {"count": "mass of steps"}


def test_columns_are_checked_before_any_work(tmp_path: Path) -> None:
    frame = table()
    assert "no column 'snow'" in refusal(tmp_path, frame, UsageError, kinds={"snow": "whole"})
    assert "cannot be of the kind 'hole'" in refusal(tmp_path, frame, UsageError, kinds={"count": "hole"})
    assert "hold nothing" in refusal(tmp_path, frame, UsageError, bounds={"a": (1.0, 0.0)})
    assert "not finite" in refusal(tmp_path, frame, UsageError, bounds={"a": (0.0, float("nan"))})
    assert "no bound" in refusal(tmp_path, frame, UsageError, bounds={"a": (None, None)})
    assert "not modelled" in refusal(tmp_path, frame, UsageError, bounds={"a": (0.0, None)}, given=("a",))
    category = refusal(tmp_path, frame, UsageError, bounds={"a": (0.0, None)}, kinds={"a": "category"})
    assert "is a category" in category


def test_options_are_read_from_words() -> None:
    assert kinds_from(["a=whole", "found", "b=c=mixed"]) == ({"a": "whole", "b=c": "mixed"}, True)
    assert bounds_from(["price=0:", "a=b=-1:2.5", "c=:7"]) == {
        "price": (0.0, None), "a=b": (-1.0, 2.5), "c": (None, 7.0),
    }  # fmt: skip
    for wrong in ("price", "price=", "price=1", "price=a:b", "=0:1", "price=0:1:2"):
        with pytest.raises(UsageError):
            bounds_from([wrong])
    with pytest.raises(UsageError, match="names no column"):
        kinds_from(["whole"])


def test_steps_are_found_of_columns_that_were_moved() -> None:
    random = np.random.default_rng(0)
    tenths = random.integers(0, 60, 200) / 10
    rows = np.stack([tenths, tenths - tenths.mean(), random.normal(size=200) * 1e-3, random.normal(size=200) + 1e6], 1)
    steps = Steps(4)
    for part in np.array_split(rows, 7):
        steps.add(part)
    found = steps.steps(np.abs(rows).max(axis=0))
    np.testing.assert_allclose(found[:2], 0.1)
    assert np.isnan(found[2:]).all()
    assert not steps.whole.any()


def test_missing_numbers_are_a_class_of_a_category(tmp_path: Path) -> None:
    frame = table()[["a", "count"]]
    frame["count"] = frame["count"].where(np.arange(N) % 7 > 0)
    data = loaded(tmp_path, frame, kinds={"count": "category"}, missing="indicator")
    assert data.discrete is not None
    assert data.discrete.categories[0].labels[:3] == ("", "0", "1")


def test_values_that_all_stand_apart_are_steps(tmp_path: Path) -> None:
    frame = table()[["a"]].assign(stars=np.random.default_rng(0).integers(1, 9, N) / 2)
    assert loaded(tmp_path, frame, found=True).dequantised == {"stars": 0.5}
    assert "no few values" in refusal(tmp_path, frame, kinds={"stars": "mixed"})


def test_one_mark_for_what_is_missing_makes_no_twins(tmp_path: Path) -> None:
    frame, apart = table()[["a"]], np.random.default_rng(1).random(N) < 0.13
    for name, seed in (("s", 2), ("t", 3)):
        frame[name] = np.where(apart, -999.0, np.random.default_rng(seed).normal(size=N))
    assert len(loaded(tmp_path, frame, found=True).kinds) == 2
    twin = frame.assign(u=frame["s"] * 2)
    assert "follow from others" in refusal(tmp_path, twin, found=True)


def test_groups_of_which_no_row_is_whole_are_none(tmp_path: Path) -> None:
    frame = table()[["a", "share"]].assign(group=np.arange(N) % 6)
    frame.loc[frame["group"].isin([1, 2, 4]), "share"] = np.nan
    for seed in range(4):
        frame.to_csv(tmp_path / "t.csv", index=False)
        options = TableOptions(split="group", missing="drop")
        assert min(load(str(tmp_path / "t.csv"), table_options=options, split_seed=seed).rows) > 300


def test_what_has_no_effect_or_no_sense_is_refused(tmp_path: Path) -> None:
    frame = table()[["a", "share", "city"]]
    for options in ({"kinds": {"city": "whole"}}, {"bounds": {"city": (0.0, 1.0)}}):
        assert "is text" in refusal(tmp_path, frame, UsageError, **options)
    idle = refusal(tmp_path, frame, UsageError, columns=("a",), bounds={"share": (0.0, 1.0)})
    assert "'share' is not modelled" in idle
    assert "no step that all values" in refusal(tmp_path, frame, kinds={"a": "whole"})
    fine = frame[["a"]].assign(k=np.random.default_rng(0).integers(0, 10**9, N))
    assert "too fine" in refusal(tmp_path, fine, likelihood="mass")


def test_ties_that_are_allowed_by_name_get_no_noise(tmp_path: Path) -> None:
    frame = table()[["a", "count"]]
    assert loaded(tmp_path, frame, found=True, allow_ties=("count",)).tied == ("count",)
    rest = frame.assign(
        count=np.where(np.arange(N) % 3, np.random.default_rng(0).permutation(N) % 400 + np.sqrt(2), 0.0)
    )
    rest["count"] = np.sqrt(rest["count"])
    assert loaded(tmp_path, rest, kinds={"count": "mixed"}, allow_ties=("count",)).tied == ("count",)


def test_steps_begin_with_the_first_value_that_is_there() -> None:
    steps = Steps(1)
    steps.add(np.full((5, 1), np.nan))
    steps.add(np.array([[np.nan], [3.0], [8.0], [23.0]]))
    assert steps.steps(np.array([23.0])) == [5.0]
