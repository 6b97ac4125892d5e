"""A conditional density from a table to its scores and draws: on the command line, and as an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from flowbench import FlowDensity
from flowbench.cli import use as commands
from flowbench.cli.log_prob import log_prob as log_prob_command
from flowbench.data import TableOptions
from flowbench.errors import DataError, FlowbenchError, UsageError
from flowbench.report.summary import summary
from flowbench.results.record import RunRecord
from flowbench.training.carry_out import carry_out
from flowbench.training.order import How, Order
from flowbench.use import trained

CENTRES = {"west": -10.0, "north": 0.0, "south": 30.0}

SPREAD = 5.0


def table(n: int, seed: int = 0) -> pd.DataFrame:
    """x is normal about its site's centre plus twice the depth, y about half of x."""
    rng = np.random.RandomState(seed)
    site, depth = rng.choice(list(CENTRES), n), rng.normal(100, 4, n)
    x = np.array([CENTRES[name] for name in site]) + 2 * (depth - 100) + rng.normal(0, SPREAD, n)
    return pd.DataFrame({"x": x, "site": site, "depth": depth, "y": x / 2 + rng.normal(0, SPREAD, n)})


def true_ll(frame: pd.DataFrame) -> NDArray[np.float64]:
    mean = frame["site"].map(CENTRES) + 2 * (frame["depth"] - 100)
    return np.asarray(
        stats.norm(mean, SPREAD).logpdf(frame["x"]) + stats.norm(frame["x"] / 2, SPREAD).logpdf(frame["y"])
    )


@dataclass(frozen=True)
class Done:
    """A finished run."""

    record: RunRecord
    folder: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("conditional")
    table(3000).to_csv(folder / "t.csv", index=False)
    settings = {"hidden": [16], "max_steps": 700, "learning_rate": 2e-2}
    options = TableOptions(given=("site", "depth"))
    order = Order(flow="made", data=str(folder / "t.csv"), device="cpu", settings=settings, table=options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowbench.training.run.time_flow", lambda flow, rows: [])  # two seconds
        return Done(carry_out(order, folder / "results", How()), folder / "results")


@pytest.fixture(autouse=True)
def _here(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_RESULTS_DIR", str(done.folder))
    monkeypatch.chdir(tmp_path)


def log_prob(done: Done, frame: pd.DataFrame) -> NDArray[np.float64]:
    frame.to_parquet("new.parquet", index=False)
    log_prob_command(done.record.run, "new.parquet", Path("lls.npy"), "cpu")
    return np.load("lls.npy")


def test_a_run_learns_what_depends_on_what_is_given(done: Done) -> None:
    frame = table(2000, seed=1)
    lls = log_prob(done, frame)
    assert (true_ll(frame) - lls).mean() < 0.1
    elsewhere = frame.assign(site=frame["site"].map({"west": "south", "north": "west", "south": "north"}))
    deeper = frame.assign(depth=frame["depth"] + 4)
    assert (lls - log_prob(done, elsewhere)).mean() > 2
    assert (lls - log_prob(done, deeper)).mean() > 0.5


def test_its_record_says_what_was_given_and_the_average_over_classes(done: Done) -> None:
    record = done.record
    found = record.likelihoods
    assert record.status == "ok"
    assert (record.task.dim, record.task.given) == (2, {"site": 3, "depth": 0})
    assert found.test_ll_nats is not None
    assert found.test_ll_nats.mean is not None
    assert found.gaussian_test_ll_nats is not None
    assert found.class_averaged_test_ll_nats is not None
    assert found.class_averaged_test_ll_nats.mean is not None
    assert found.test_ll_nats.mean == pytest.approx(found.gaussian_test_ll_nats.mean, abs=0.1)  # it is the truth
    # the classes overlap: the own one's share is between a third and all
    below = found.test_ll_nats.mean - found.class_averaged_test_ll_nats.mean
    assert 0.5 < below < np.log(3)
    from rich.console import Console

    console = Console(width=140)
    with console.capture() as capture:
        console.print(summary(record))
    assert "given 'site', 'depth'" in capture.get()
    assert "averaged over the classes" in capture.get()


def test_densities_in_own_units_integrate_to_one_whatever_is_given(done: Done) -> None:
    density = trained.load(trained.find(done.record.run, done.folder)).density
    x, y = np.linspace(-120, 160, 700), np.linspace(-90, 110, 500)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    for given in ((0.0, 97.0), (2.0, 104.0)):
        rows = np.concatenate([np.tile(given, (len(grid), 1)), grid], axis=1)
        mass = np.exp(density.log_prob(rows)).sum() * (x[1] - x[0]) * (y[1] - y[0])
        assert mass == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_draws_are_of_the_rows_given(done: Done, kind: str) -> None:
    given = table(6000, seed=2)[["depth", "x", "site"]]
    given.to_csv("given.csv", index=False)
    commands.sample(done.record.run, None, 0, Path(f"drawn.{kind}"), "cpu", given="given.csv")
    drawn = pd.read_csv("drawn.csv") if kind == "csv" else pd.read_parquet("drawn.parquet")
    assert list(drawn) == ["site", "depth", "x", "y"]
    assert list(drawn["site"]) == list(given["site"])
    np.testing.assert_allclose(drawn["depth"], given["depth"])
    left = drawn["x"] - drawn["site"].map(CENTRES) - 2 * (drawn["depth"] - 100)
    assert abs(left.mean()) < 0.5
    assert left.std() == pytest.approx(SPREAD, abs=0.5)


def refusal(kind: type[FlowbenchError], *arguments: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        commands.sample(*arguments, **options)  # type: ignore[arg-type]
    return f"{caught.value} ({caught.value.hint})"


def test_draws_are_refused_where_what_is_given_does_not_fit(done: Done) -> None:
    run = done.record.run
    table(9).to_csv("given.csv", index=False)
    assert "conditional on 'site', 'depth'" in refusal(UsageError, run)
    assert "--rows does not go with --given" in refusal(UsageError, run, 5, given="given.csv")
    assert "a .npy holds numbers" in refusal(UsageError, run, out=Path("x.npy"), given="given.csv")
    table(9).drop(columns="site").to_csv("given.csv", index=False)
    assert "lacks column 'site'" in refusal(DataError, run, given="given.csv")
    table(9).assign(site="east").to_csv("given.csv", index=False)
    assert "has an unknown class, 'east', in row 1" in refusal(DataError, run, given="given.csv")
    table(9).assign(depth=[np.nan, *range(8)]).to_csv("given.csv", index=False)
    assert "a missing value in row 1" in refusal(DataError, run, given="given.csv")
    with pytest.raises(DataError, match="missing value in row 1"):
        log_prob(done, table(9).assign(site=[None, *["west"] * 8]))


def test_a_flow_that_cannot_be_conditioned_is_refused(tmp_path: Path) -> None:
    table(100).to_csv("t.csv", index=False)
    order = Order(
        flow="gaussian", data="t.csv", device="cpu", table=TableOptions(given=("site",), drop_columns=("depth",))
    )
    with pytest.raises(UsageError, match="cannot be conditioned"):
        carry_out(order, tmp_path / "results", How())


def test_an_estimator_is_given_columns_by_index_or_name() -> None:
    frame = table(2000).assign(site=lambda frame: frame["site"].map(CENTRES))
    settings = {"hidden": 16, "max_epochs": 20, "learning_rate": 2e-2, "random_state": 0}
    by_name = FlowDensity("made", given=["depth", "site"], **settings).fit(frame)
    by_index = FlowDensity("made", given=[2, 1], **settings).fit(frame.to_numpy())
    np.testing.assert_array_equal(by_name.score_samples(frame), by_index.score_samples(frame.to_numpy()))
    names = frame["site"].map({at: name for name, at in CENTRES.items()})
    truth = true_ll(frame.assign(site=names)).mean()
    assert by_name.score(frame) == pytest.approx(truth, abs=0.1)
    drawn = by_name.sample(500, random_state=0, given=[104.0, 30.0])
    assert drawn.shape == (500, 4)
    np.testing.assert_array_equal(drawn[:, [2, 1]], np.tile([104.0, 30.0], (500, 1)))
    assert drawn[:, 0].mean() == pytest.approx(38, abs=2)
    each = by_name.sample(3, random_state=0, given=[[90.0, 0.0], [100.0, 0.0], [110.0, -10.0]])
    assert list(each[:, 2]) == [90.0, 100.0, 110.0]


@pytest.mark.parametrize("given", [["nowhere"], [4], [-1], ["x", 0], ["x", "y", "depth", "site"]])
def test_an_estimator_refuses_columns_that_are_none(given: list[int | str]) -> None:
    frame = table(50).assign(site=0.0)
    with pytest.raises(ValueError, match="given names"):
        FlowDensity("made", given=given, max_epochs=0).fit(frame)


def test_an_estimator_draws_for_what_it_is_given_alone() -> None:
    frame = table(50)[["x", "depth"]]
    conditional = FlowDensity("made", given=["depth"], hidden=4, max_epochs=0).fit(frame)
    with pytest.raises(ValueError, match="sample takes given"):
        conditional.sample(3)
    with pytest.raises(ValueError, match=r"shape \(2, 1\), expected \(1,\) or \(3, 1\)"):
        conditional.sample(3, given=[[1.0], [2.0]])
    with pytest.raises(ValueError, match="nothing can be given"):
        FlowDensity("made", hidden=4, max_epochs=0).fit(frame).sample(3, given=[1.0])
