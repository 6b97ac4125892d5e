"""Heavy tails: which columns are said to have them, and what log and asinh make of a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from table_cases import loaded, refusal

from flowbench import flows
from flowbench.cli.tables import transforms_from
from flowbench.data import Dataset, TableOptions, load
from flowbench.data.preprocessing import Compress, Standardise
from flowbench.data.tables import spool as table_spool
from flowbench.data.tables.tails import Tail, merged_share, middle, tail_of
from flowbench.errors import DataError, UsageError
from flowbench.flows.core.density import Density

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]

LIGHT: dict[str, Draw] = {
    "normal": lambda r, n: r.normal(size=n),
    "uniform": lambda r, n: r.uniform(size=n),
    "exponential": lambda r, n: r.exponential(size=n),
    "Laplace": lambda r, n: r.laplace(size=n),
    "t(5)": lambda r, n: r.standard_t(5, n),
    "t(3)": lambda r, n: r.standard_t(3, n),
    "lognormal 1": lambda r, n: r.lognormal(0, 1, n),
    "chi squared": lambda r, n: r.chisquare(1, n),
    "arcsine": lambda r, n: r.beta(0.5, 0.5, n),
    "two": lambda r, n: r.normal(size=n) + np.where(r.random(n) < 0.5, -5, 5),
    "a tenth far out": lambda r, n: r.normal(size=n) + np.where(r.random(n) < 0.1, 100, 0),
    "counts": lambda r, n: r.poisson(0.3, n) * 1.0,
    "mostly zero": lambda r, n: np.where(r.random(n) < 0.95, 0.0, r.exponential(size=n)),
}
HEAVY: dict[str, tuple[Draw, str]] = {
    "lognormal 3": (lambda r, n: r.lognormal(0, 3, n), "log"),
    "lognormal 8": (lambda r, n: r.lognormal(0, 8, n), "log"),
    "Pareto 0.5": (lambda r, n: 1 + r.pareto(0.5, n), "log"),
    "Pareto 1": (lambda r, n: 1 + r.pareto(1, n), "log"),
    "negative lognormal": (lambda r, n: 4 - r.lognormal(0, 3, n), "asinh"),
    "Cauchy": (lambda r, n: r.standard_cauchy(n), "asinh"),
    "t(1.5)": (lambda r, n: r.standard_t(1.5, n), "asinh"),
}
N = 2000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table_spool, "CHUNK_VALUES", 700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tail(values: NDArray[np.float64]) -> Tail:
    return tail_of(np.sort(values), positive=bool(values.min() > 0))


@pytest.mark.parametrize("n", [100, 1000, 10_000])
@pytest.mark.parametrize("name", LIGHT)
def test_light_tails_are_let_be(name: str, n: int) -> None:
    draws = (LIGHT[name](np.random.default_rng(seed), n) for seed in range(20))
    said = [tail(values).transform for values in draws]
    # of 100 rows a tenth that is far out may be five
    assert [each for each in said if each] == [] or (name == "a tenth far out" and n == 100 and said.count(None) >= 17)


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_tails_are_found_with_what_brings_them_in(name: str) -> None:
    draw, transform = HEAVY[name]
    tails = [tail(draw(np.random.default_rng(seed), 10_000)) for seed in range(20)]
    assert {each.transform for each in tails} == {transform}
    assert min(each.reach for each in tails) > 50


def test_a_tail_does_not_depend_on_units_and_survives_the_edges_of_floating_point() -> None:
    values = np.sort(np.random.default_rng(0).standard_cauchy(1000))
    for unit in (1e-290, 1e290):
        assert tail_of(values * unit, positive=False) == tail_of(values, positive=False)._replace(
            reach=pytest.approx(tail_of(values, positive=False).reach)
        )
    assert tail_of(np.r_[np.zeros(999), 1e308], positive=False).transform is None
    assert tail_of(np.full(1000, 3.0), positive=True) == tail_of(values[:99], positive=False) == Tail()
    assert middle(np.array([3.0])) == (3.0, 1.0)
    assert middle(np.r_[np.zeros(980), np.ones(20)]) == (0, 0.5)


def test_values_that_single_precision_makes_one() -> None:
    random = np.random.default_rng(0)
    assert merged_share(np.sort(random.normal(size=100_000))) < 0.02
    assert merged_share(np.sort(random.lognormal(0, 8, 10_000))) > 0.8
    assert merged_share(np.array([1, 1 + 1e-12, 2, 2, 3])) == pytest.approx(0.4)
    assert merged_share(np.sort(random.integers(0, 5, 1000) * 1.0)) == 0  # equal ones are no others


def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": random.normal(size=N),
            "amount": random.lognormal(0, 8, N),
            "x": random.standard_cauchy(N),
            "count": np.floor(random.lognormal(3, 3, N)),
            "rain": np.where(random.random(N) < 0.4, 0.0, random.lognormal(0, 3, N)),
            "seen": np.where(random.random(N) < 0.2, np.nan, random.standard_cauchy(N)),
            "share": random.beta(2, 2, N),
        }
    )


BY = {"amount": "log", "x": "asinh", "count": "log", "rain": "log", "seen": "asinh"}
ALL: dict[str, Any] = {"found": True, "missing": "indicator", "bounds": {"share": (0.0, 1.0)}}


def density(data: Dataset) -> Density:
    flow = flows.build("maf", data.dim, flows.load("maf").Options(hidden=(4,)), data.classes, data.discrete)
    return Density(flow.double().eval(), data.preprocessing or (), data.given, data.discrete)


def test_heavy_tails_are_remarked_on_with_a_proposal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = table()[["a", "amount", "x"]]
    for _ in ("fresh", "from the cache"):
        data = loaded(tmp_path, frame)
        first, second = data.remarks
        assert "column 'amount' has heavy tails" in first
        assert "are another's once standardised in float32. --transform amount=log may help" in first
        assert "column 'x' has heavy tails" in second
        assert "--transform x=asinh may help" in second
        assert capsys.readouterr().err.count("warning: column") == 2
    assert len(loaded(tmp_path, frame, column_transforms={"amount": "log"}).remarks) == 1
    assert loaded(tmp_path, frame, column_transforms={"amount": "log", "x": "asinh"}).remarks == ()
    assert loaded(tmp_path, frame, bounds={"amount": (0.0, None)}, column_transforms={"x": "asinh"}).remarks == ()
    quoted = loaded(tmp_path, frame[["a", "x"]].rename(columns={"x": "my x"})).remarks
    assert "--transform 'my x=asinh' may help" in quoted[0]
    # asinh knows one scale, and lognormal values have many
    (lost,) = loaded(tmp_path, frame[["a", "amount"]], column_transforms={"amount": "asinh"}).remarks
    assert "'amount' are another's once standardised in float32" in lost


def test_what_is_found_is_taken(tmp_path: Path) -> None:
    data = loaded(tmp_path, table(), tails_found=True, **ALL)
    assert data.remarks == ()
    (compress,) = [step for step in data.preprocessing or () if isinstance(step, Compress)]
    assert compress.by == (None, "log", "asinh", "log", "log", "asinh", None)
    said = loaded(tmp_path, table(), tails_found=True, column_transforms={"amount": "asinh"}, **ALL)
    assert said.kinds["amount"] == "asinh"


def test_a_table_of_all_kinds_is_compressed_and_comes_back(tmp_path: Path) -> None:
    frame = table()
    data = loaded(tmp_path, frame, column_transforms=BY, **ALL)
    assert data.kinds == {
        "amount": "log", "x": "asinh", "count": "log", "rain": "log, apart 0", "seen": "asinh, apart missing",
        "share": "bounded 0:1",
    }  # fmt: skip
    train = frame[:1600]
    (compress,) = [step for step in data.preprocessing or () if isinstance(step, Compress)]
    low, high = train["x"].quantile([0.25, 0.75])
    assert compress.location[2] == pytest.approx(train["x"].median())
    assert compress.scale[2] == pytest.approx((high - low) / 2)
    (standardise,) = [step for step in data.preprocessing or () if isinstance(step, Standardise)]
    assert standardise.location[1] == pytest.approx(np.log(train["amount"]).mean())
    assert standardise.scale[1] == pytest.approx(np.log(train["amount"]).std(ddof=0))

    own = density(data)
    rows = frame[:100].to_numpy()
    own_lls = own.log_prob(rows)
    assert np.isfinite(own_lls).all()
    assert not own.unfit(rows).any()
    u, log_det = own._in_flow_space(rows)
    back, back_log_det = own._in_raw_units(u)
    np.testing.assert_allclose(back.numpy(), rows, rtol=1e-6)
    np.testing.assert_allclose(back_log_det, -log_det, rtol=1e-6, atol=1e-6)
    # what the run's record has in own units is the same, but for single precision
    codes = 2
    there = (data.train[:100, :codes] == 0).all(1)
    noise = np.flatnonzero(frame["count"][:100][there] > 100)  # beside whose values noise is small
    of_record = own.in_own_units(own_rows(data.train[:100]), own._each_log_likelihood(own_rows(data.train[:100])))
    np.testing.assert_allclose(of_record[there][noise], own_lls[there][noise], atol=0.2)

    drawn = np.concatenate(list(own.samples(500, generator())))
    amount, count, rain = drawn[:, 1], drawn[:, 3], drawn[:, 4]
    assert (amount > 0).all()
    assert (rain >= 0).all()
    assert (rain == 0).any()
    np.testing.assert_array_equal(count, np.floor(count))
    assert np.isfinite(own.log_prob(drawn)).all()
    assert not own.unfit(drawn).any()


def own_rows(rows: NDArray[np.float32]) -> Any:
    import torch

    return torch.from_numpy(np.array(rows, np.float64))


def generator() -> Any:
    import torch

    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("column", "by"), [("amount", "log"), ("x", "asinh")])
def test_a_density_in_own_units_integrates_to_one(tmp_path: Path, column: str, by: str) -> None:
    data = loaded(tmp_path, table()[[column]], column_transforms={column: by})
    own = density(data)
    # with x = e^t and x = sinh t, over all that the flow has
    t = np.linspace(-120, 120, 100_001)
    x, log_slope = (np.exp(t), t) if by == "log" else (np.sinh(t), np.log(np.cosh(t)))
    assert np.trapezoid(np.exp(own.log_prob(x[:, None]) + log_slope), t) == pytest.approx(1, abs=1e-4)


def test_the_weights_and_their_json_have_it(tmp_path: Path) -> None:
    from flowbench.config import RunConfig, packaged_layers, resolve
    from flowbench.training import recording, weights

    data = loaded(tmp_path, table()[["amount", "x"]], column_transforms={"amount": "log", "x": "asinh"})
    own = density(data)
    config: RunConfig = resolve(
        flows.load("maf").Options, packaged_layers("maf", "", "fast"), {"hidden": [4]},
        flow="maf", data="", recipe="fast", seed=0, device="cpu", threads=1,
    )  # fmt: skip
    about = recording.about(config, data, "ok")
    weights.save(tmp_path / "w.safetensors", own.flow.float(), "maf", config.model, about)
    _, read = weights.load(tmp_path / "w.safetensors")
    assert read.preprocessing == data.preprocessing
    assert "compress" in json.loads(read.model_dump_json())["preprocessing"][0]["kind"]


def test_numbers_without_a_logarithm_are_refused_by_their_row(tmp_path: Path) -> None:
    frame = table()[["a", "amount", "count", "rain", "seen"]].drop(columns="seen")
    frame.loc[1234, "amount"] = -2.5
    log = {"column_transforms": {"amount": "log"}, "found": True}
    said = refusal(tmp_path, frame, **log)
    assert "t.csv: column 'amount' has -2.5 in row 1235: there is no logarithm of it" in said
    assert "asinh" in said
    frame.loc[1234, "amount"] = 0.0
    assert "'amount' has 0 in row 1235" in refusal(tmp_path, frame, **log)
    lacking = frame.assign(a=frame["a"].where(np.arange(N) != 5))  # a row that is left out is counted, too
    assert "'amount' has 0 in row 1235" in refusal(tmp_path, lacking, missing="drop", **log)
    # a count of 0 is a step of width 1, and 0 that stands apart is no number
    kept = {"count": "log", "rain": "log"}
    assert np.isfinite(loaded(tmp_path, frame, found=True, column_transforms=kept).train).all()
    frame.loc[77, "rain"] = -1.0
    assert "'rain' has -1 in row 78" in refusal(tmp_path, frame, found=True, column_transforms=kept)


def test_a_folder_of_files_and_held_out_rows_are_told_apart(tmp_path: Path) -> None:
    frame = table()[["amount", "x"]]
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.assign(amount=frame["amount"].where(np.arange(N) != 9, -1.0)).to_csv(tmp_path / "test.csv", index=False)
    options = TableOptions(column_transforms={"amount": "log"})
    with pytest.raises(DataError, match=r"test\.csv: column 'amount' has -1 in row 10"):
        load(str(tmp_path / "train.csv"), table_options=options, test_data=str(tmp_path / "test.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column_transforms": {"x": "lg"}}, "column 'x' cannot have the transform 'lg' | did you mean log?"),
        ({"column_transforms": {"snow": "log"}}, "has no column 'snow'"),
        ({"column_transforms": {"a": "log"}, "given": ("a",)}, "--transform says what modelled columns are; 'a'"),
        ({"column_transforms": {"x": "asinh"}, "bounds": {"x": (None, 1e9)}}, "'x' has bounds and a transform"),
        ({"column_transforms": {"x": "log"}, "kinds": {"x": "category"}}, "'x' is a category, so it has no transform"),
        ({"column_transforms": {"city": "log"}}, "is text: it is a category"),
    ],
)
def test_what_a_transform_does_not_go_with(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    frame = table()[["a", "x"]].assign(city=np.array(["oslo", "rome"])[np.arange(N) % 2])
    assert words in refusal(tmp_path, frame, UsageError, **options)


def test_a_probability_of_steps_has_no_transform(tmp_path: Path) -> None:
    frame = table()[["a", "x"]].assign(count=np.random.default_rng(1).poisson(3, N))
    mass = {"likelihood": "mass", "found": True}
    assert "a transform would make unequal" in refusal(tmp_path, frame, column_transforms={"count": "log"}, **mass)
    steps = loaded(tmp_path, frame, tails_found=True, **mass).preprocessing or ()
    assert [step.by for step in steps if isinstance(step, Compress)] == [(None, "asinh", None)]


def test_the_option_is_read() -> None:
    assert transforms_from(["a=log", "found", "b=c=asinh"]) == ({"a": "log", "b=c": "asinh"}, True)
    assert transforms_from([]) == ({}, False)
    with pytest.raises(UsageError, match="--transform 'log' names no column"):
        transforms_from(["log"])


def test_values_that_floating_point_cannot_tell_apart_are_named_for_that(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(N, 2))
    np.save(tmp_path / "far.npy", x + np.array([1e15, 0]))
    with pytest.raises(DataError, match=r"column '0' \(float64 has steps of 0.125 around 1e\+15\)") as caught:
        load(str(tmp_path / "far.npy"))
    assert "subtract an offset" in (caught.value.hint or "")
    np.save(tmp_path / "far.npy", np.float32(x + np.array([1e6, 0])))
    with pytest.raises(DataError, match=r"column '0' \(float32 has steps of 0.0625 around"):
        load(str(tmp_path / "far.npy"))
    # numbers of seven digits, prices, and even amounts of which float32 has no others
    for honest in (np.arange(N) % 50 + 1e7, np.arange(N) % 50 * 0.01 + 20, np.arange(N) % 50 * 2 + 2e7):
        np.save(tmp_path / "far.npy", np.c_[x, honest])
        with pytest.raises(DataError, match="only whole numbers or heavy ties"):
            load(str(tmp_path / "far.npy"))
