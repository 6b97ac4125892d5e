"""What was trained, used: log-densities and samples in the table's own units, from a run's checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from forked import flowbench
from made_files import standardisation
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import stats

from flowbench import data, flows
from flowbench.cli import use as commands
from flowbench.cli.log_prob import log_prob as log_prob_command
from flowbench.config import RunConfig, TrainingOptions
from flowbench.data import Dataset
from flowbench.data.tables.options import TableOptions
from flowbench.errors import DataError, DivergedError, FlowbenchError, UsageError
from flowbench.flows.core.density import ROWS, Density, log_likelihoods
from flowbench.progress import Progress
from flowbench.results import store as results
from flowbench.training import weights
from flowbench.training.run import run
from flowbench.use import trained
from flowbench.use.trained import Trained

REFERENCE = Path(__file__).parents[2] / "results" / "reference"

NAMES = ["mass", "voltage, V", "größe"]

OLDER = {
    "columns": NAMES, "location": [0.0, 1.0, 2.0], "scale": [1.0, 2.0, 3.0], "space": "standardised",
    "dequantised": {NAMES[1]: 0.5}, "status": "ok",
}  # fmt: skip
"""What checkpoints said of a table before they held its preprocessing."""


def table(n: int, seed: int = 0) -> pd.DataFrame:
    """Three columns of unlike places and spreads; the first's spread is below single precision at its place."""
    z = np.random.RandomState(seed).normal(size=(n, 3))
    return pd.DataFrame(np.c_[1.7e9 + z[:, 0], z[:, 1] * 1e-3 - 5, z[:, 0] * 30 + z[:, 2] ** 2 * 10], columns=NAMES)


@dataclass(frozen=True)
class Done:
    """A finished run."""

    name: str
    folder: Path
    dataset: Dataset


def finish(source: str, folder: Path, flow: str = "maf", **options: bool) -> Done:
    module = flows.load(flow)
    sizes = {"hidden": (8,), "transforms": 2} if flow == "maf" else {}
    training = TrainingOptions(max_epochs=2, warmup_steps=0)
    config = RunConfig(
        flow=flow, data=source, recipe="fast", seed=0, device="cpu", threads=1, model=module.Options(**sizes),
        training=training,
    )  # fmt: skip
    dataset = data.load(source, table_options=TableOptions(**options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowbench.training.run.time_flow", lambda flow, rows: [])  # two seconds
        return Done(run(config, dataset, folder, Progress(None)).run, folder, dataset)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("own")
    table(1000).to_csv(folder / "mine.csv", index=False)
    return finish(str(folder / "mine.csv"), folder / "results")


@pytest.fixture(autouse=True)
def _here(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_RESULTS_DIR", str(done.folder))
    monkeypatch.chdir(tmp_path)


def load(done: Done) -> Trained:
    return trained.load(trained.find(done.name, done.folder))


def log_prob(done: Done, frame: pd.DataFrame, out: str = "lls.npy") -> NDArray[np.float64]:
    frame.to_parquet("new.parquet", index=False)
    log_prob_command(done.name, "new.parquet", Path(out), "cpu")
    return np.load(out)


def refusal(kind: type[FlowbenchError], done: Done, frame: pd.DataFrame, there: Sequence[str] = ()) -> str:
    with pytest.raises(kind) as caught:
        log_prob(done, frame)
    assert sorted(path.name for path in Path().iterdir()) == [*there, "new.parquet"]  # no output, whole or half
    return f"{caught.value} | {caught.value.hint}"


def original(dataset: Dataset, rows: NDArray[np.float32]) -> pd.DataFrame:
    location, scale = standardisation(dataset)
    return pd.DataFrame(rows * scale + location, columns=NAMES)


def test_a_test_split_gets_the_likelihoods_that_its_run_recorded(done: Done) -> None:
    row = results.read(done.folder / f"{done.name}.json")
    recorded = results.read_test_lls(row, done.folder)
    lls = log_prob(done, original(done.dataset, done.dataset.test))
    assert lls.dtype == np.float64
    _, scale = standardisation(done.dataset)
    np.testing.assert_allclose(lls, recorded - np.log(scale).sum(), rtol=0, atol=1e-5)
    assert lls.mean() == pytest.approx(row.likelihoods.test_ll_own_units_nats, abs=1e-5)


def test_log_densities_in_own_units_integrate_to_one(tmp_path: Path) -> None:
    table(2000)[NAMES[1:]].to_csv("two.csv", index=False)
    run = finish("two.csv", tmp_path / "results")
    density = load(run).density
    axes = [np.linspace(m - 12 * s, m + 12 * s, 501) for m, s in zip(*standardisation(run.dataset), strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(density.log_prob(grid)).sum() * cell == pytest.approx(1, abs=2e-3)


def test_they_are_the_standardised_ones_and_the_jacobian(done: Done) -> None:
    flow, rows, (location, scale) = load(done).density.flow, table(100, 1), standardisation(done.dataset)
    z = (rows.to_numpy() - location) / scale
    standardised = log_likelihoods(flow, torch.from_numpy(z).float())
    np.testing.assert_allclose(log_prob(done, rows), standardised - np.log(scale).sum(), atol=1e-6)
    pd.DataFrame(z, columns=NAMES).to_parquet("z.parquet", index=False)
    log_prob_command(done.name, "z.parquet", Path("z.npy"), "cpu", space="flow")
    np.testing.assert_allclose(np.load("z.npy"), standardised, atol=1e-6)


def test_columns_come_in_any_order_among_others(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(50, 1)
    expected = log_prob(done, rows)
    wider = rows.assign(name="x", time=1.0)[["time", NAMES[2], "name", NAMES[0], NAMES[1]]]
    np.testing.assert_array_equal(log_prob(done, wider), expected)
    assert "left out columns 'time', 'name'" in capsys.readouterr().err


def test_nameless_columns_are_taken_in_order(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    frame = table(50, seed=3)
    np.save("new.npy", frame[NAMES].to_numpy())
    log_prob_command(str(done.folder / f"{done.name}.json"), "new.npy", Path("nameless.npy"), "cpu")
    assert "has no names" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load("nameless.npy"), log_prob(done, frame))


def test_missing_and_renamed_columns_are_named(done: Done) -> None:
    rows = table(50, 1)
    message = refusal(DataError, done, rows.rename(columns={"mass": "MASS ", "größe": "groesse"}))
    assert "lacks columns 'mass', 'größe'" in message
    assert "rename 'MASS ' to 'mass'; rename 'groesse' to 'größe'" in message
    assert "lacks column 'mass'" in refusal(DataError, done, rows[NAMES[1:]])


@pytest.mark.parametrize(("value", "what"), [(np.nan, "a missing value"), (-np.inf, "an infinite value")])
def test_a_row_without_a_density_is_named(done: Done, value: float, what: str) -> None:
    rows = table(50, 1)
    rows.iloc[20, 1] = value
    assert f"'voltage, V' has {what} in row 21" in refusal(DataError, done, rows)
    for far in (1e300, 1e307):
        rows.iloc[20, 1] = far
        assert "density is beyond floating point, in row 21" in refusal(DataError, done, rows)


def test_a_row_beyond_single_precision_has_a_density(done: Done) -> None:
    rows = table(50, 1)
    rows.iloc[20, 1] = 1e30
    lls = log_prob(done, rows)
    assert np.isfinite(lls).all()
    assert lls[20] < -1e50


def test_batches_come_and_go(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more rows in memory than a batch, and the rows in order."""
    rows = table(1000, 1)
    whole = log_prob(done, rows)
    monkeypatch.setattr("flowbench.data.tables.arrow.BATCH_VALUES", 300)
    seen: list[int] = []
    monkeypatch.setattr(
        Density, "log_prob", lambda self, x, take=Density.log_prob: seen.append(len(x)) or take(self, x)
    )
    np.testing.assert_allclose(log_prob(done, rows), whole, atol=1e-5)
    assert seen == [100] * 10
    rows.iloc[520, 0] = np.nan
    assert "in row 521" in refusal(DataError, done, rows, there=["lls.npy"])


def test_samples_have_the_names_and_the_distribution_of_the_table(tmp_path: Path) -> None:
    frame = table(20_000)[NAMES[:2]]
    frame.to_csv("normal.csv", index=False)
    run = finish("normal.csv", tmp_path / "results", "gaussian")
    commands.sample(str(trained.find(run.name, run.folder)), 3 * ROWS + 1, 0, Path("drawn.csv"), "cpu")
    drawn = pd.read_csv("drawn.csv")
    assert list(drawn.columns) == NAMES[:2]
    assert len(drawn) == 3 * ROWS + 1
    spread = frame.std()
    assert ((drawn.mean() - frame.mean()).abs() < 0.05 * spread).all()
    assert ((drawn.std() / spread - 1).abs() < 0.03).all()
    assert not drawn.duplicated().any()


def test_samples_are_their_seeds_in_every_kind_of_file_and_any_number(done: Done) -> None:
    def draw(out: str, n: int = 7, seed: int = 0) -> Path:
        commands.sample(done.name, n, seed, Path(out), "cpu")
        return Path(out)

    drawn = np.load(draw("a.npy"))
    assert drawn.shape == (7, 3)
    np.testing.assert_array_equal(np.load(draw("b.npy")), drawn)
    np.testing.assert_array_equal(pd.read_parquet(draw("b.parquet")), drawn)
    np.testing.assert_array_equal(np.loadtxt(draw("b.csv"), delimiter=",", skiprows=1), drawn)
    np.testing.assert_array_equal(np.loadtxt(draw("b.tsv"), delimiter="\t", skiprows=1), drawn)
    np.testing.assert_allclose(np.load(draw("c.npy", n=ROWS + 7))[:7], drawn, rtol=1e-6)
    assert not np.array_equal(np.load(draw("d.npy", seed=1)), drawn)


def test_a_sample_that_is_not_finite_is_refused_and_not_drawn_again(done: Done) -> None:
    density = load(done).density
    with torch.no_grad():
        next(density.flow.parameters()).fill_(torch.inf)
    with pytest.raises(DivergedError, match="sample 1 of 3 is not finite"):
        list(density.samples(3, torch.Generator()))


def test_a_known_datasets_rows_are_in_its_raw_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pixel values in, pixel values out: the density of a value in the middle of its step, by the logit's Jacobian."""
    run = finish("digits", tmp_path / "results", "gaussian")
    path = str(trained.find(run.name, run.folder))
    commands.sample(path, 50, 0, Path("drawn.npy"), "cpu")
    drawn = np.load("drawn.npy")
    np.testing.assert_array_equal(drawn, np.clip(np.floor(drawn), 0, 16))
    raw, _ = load(run).density.transform.inverse(torch.from_numpy(np.float64(run.dataset.test)))
    np.save("pixels.npy", raw.numpy())
    log_prob_command(path, "pixels.npy", Path("lls.npy"), "cpu")
    s = 0.01 + 0.98 * (raw.numpy() + 0.5) / 17
    inside = log_likelihoods(load(run).density.flow, torch.from_numpy(np.log(s) - np.log1p(-s)).float())
    np.testing.assert_allclose(np.load("lls.npy"), inside + np.log(0.98 / 17 / s / (1 - s)).sum(1), rtol=1e-5)
    row = results.read(run.folder / f"{run.name}.json")
    np.save("logits.npy", run.dataset.test)
    log_prob_command(path, "logits.npy", Path("lls.npy"), "cpu", space="flow")
    assert "in logit space" in capsys.readouterr().err
    np.testing.assert_allclose(np.load("lls.npy").mean(), row.likelihoods.test_ll_nats.mean, atol=1e-3)


def test_of_a_dataset_in_raw_space_the_units_are_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish("truth-banana", tmp_path / "results", "gaussian")
    recorded = results.read_test_lls(results.read(run.folder / f"{run.name}.json"), run.folder)
    pd.DataFrame(run.dataset.test, columns=["any", "name"]).to_csv("banana.csv", index=False)
    path = str(trained.find(run.name, run.folder))
    log_prob_command(path, "banana.csv", Path("lls.npy"), "cpu")
    assert "space" not in capsys.readouterr().err
    np.testing.assert_allclose(np.load("lls.npy"), recorded, atol=1e-5)
    pd.DataFrame(run.dataset.test[:, :1], columns=["any"]).to_csv("banana.csv", index=False)
    with pytest.raises(DataError, match=r"trained on 2 columns, banana\.csv has 1"):
        log_prob_command(path, "banana.csv", None, "cpu")
    with pytest.raises(UsageError, match="standard input, not 'truth-banana'"):
        log_prob_command(path, "truth-banana", None, "cpu")


def test_a_discrete_value_has_the_density_of_its_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole numbers with noise on [0, 1): the density over a step is the value's probability."""
    whole = np.rint(np.random.RandomState(0).normal(50, 10, size=(20_000, 1)))
    pd.DataFrame(whole, columns=["n"]).to_csv("whole.csv", index=False)
    run = finish("whole.csv", tmp_path / "results", "gaussian", dequantise=True)
    pd.DataFrame({"n": np.arange(101)}).to_csv("all.csv", index=False)
    log_prob_command(str(trained.find(run.name, run.folder)), "all.csv", Path("lls.npy"), "cpu")
    assert "learnt with noise on 'n'" in capsys.readouterr().err
    probabilities = np.exp(np.load("lls.npy"))
    assert probabilities.sum() == pytest.approx(1, abs=1e-3)
    assert probabilities @ np.arange(101) == pytest.approx(whole.mean(), abs=0.3)
    commands.sample(str(trained.find(run.name, run.folder)), 20_000, 0, Path("drawn.npy"), "cpu")
    drawn = np.load("drawn.npy")
    np.testing.assert_array_equal(drawn, np.floor(drawn))
    assert drawn.mean() == pytest.approx(whole.mean(), abs=0.3)


def test_a_run_of_the_first_schema_has_its_weights_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text((REFERENCE / "maf-patches-440f1a45.json").read_text())
    with pytest.raises(UsageError, match="no trained run 'old'"):
        trained.find("old", tmp_path)
    weights = tmp_path / "maf-patches-440f1a45.safetensors"
    weights.write_bytes(b"")
    assert trained.find("old", tmp_path) == weights


def test_weights_come_from_the_record_that_names_them(done: Done, tmp_path: Path) -> None:
    weights = trained.find(done.name, done.folder)
    assert weights.parent == done.folder
    assert weights == trained.find(str(done.folder / f"{done.name}.json"), tmp_path)
    shutil.copytree(done.folder, tmp_path / "copy")
    (tmp_path / "copy" / weights.name).write_bytes(weights.read_bytes() + b" ")  # whosever they are
    for named in (done.name, str(tmp_path / "copy" / f"{done.name}.json")):
        with pytest.raises(DataError, match="not what it is named after"):
            trained.find(named, tmp_path / "copy")
    (tmp_path / "copy" / weights.name).unlink()
    with pytest.raises(UsageError, match="no trained run"):
        trained.find(done.name, tmp_path / "copy")
    with pytest.raises(DataError, match="no file"):
        trained.find(str(tmp_path / "copy" / f"{done.name}.json"), tmp_path)


def test_a_run_that_is_not_there(done: Done, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trained run 'maf-mine'") as caught:
        commands.sample("maf-mine")
    assert f"did you mean {done.name}?" in str(caught.value.hint)
    with pytest.raises(DataError, match="no file"):
        commands.sample(str(tmp_path / "absent.safetensors"))
    (tmp_path / "no.safetensors").write_text("nothing")
    with pytest.raises(DataError, match="holds no readable weights"):
        commands.sample(str(tmp_path / "no.safetensors"))


@pytest.mark.parametrize(
    "about",
    [
        {"scale": [1.0, 1.0]},
        {"scale": [1.0, 1.0, 0.0]},
        {"columns": ["a"]},
        {"location": ["a", "b", "c"]},
        {"dequantised": []},
    ],
)
def test_a_checkpoint_that_says_nonsense_of_its_columns_is_refused(about: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_older(path, OLDER)
    trained.load(path)
    write_older(path, OLDER | about)
    with pytest.raises(DataError, match=r"x\.safetensors"):
        trained.load(path)


def write_older(path: Path, about: dict[str, Any]) -> None:
    """A Gaussian of three columns in a file as they were before they held the preprocessing."""
    module = flows.load("gaussian")
    header = {"flow": "gaussian", "dim": "3", "options": module.Options().model_dump_json(), "about": json.dumps(about)}
    save_file(module.build(3, module.Options()).state_dict(), path, header)


def test_an_older_checkpoint_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.safetensors"
    write_older(path, OLDER)
    found = trained.load(path)
    assert (found.raw, found.noisy) == (True, [NAMES[1]])
    rows = np.random.RandomState(0).normal(size=(5, 3))
    z = (rows + np.array([0, 0.25, 0]) - OLDER["location"]) / OLDER["scale"]
    expected = stats.norm.logpdf(z).sum(1) - np.log(OLDER["scale"]).sum()
    np.testing.assert_allclose(found.density.log_prob(rows), expected, rtol=1e-5)
    write_older(path, OLDER | {"location": None, "scale": None, "columns": None, "dequantised": {}})
    found = trained.load(path)
    np.testing.assert_allclose(found.density.log_prob(rows), stats.norm.logpdf(rows).sum(1), rtol=1e-5)
    commands.sample(str(path), 5, 0, Path("drawn.npy"), "cpu")
    assert "in standardised space" in capsys.readouterr().err


def test_a_run_that_ended_badly_is_used_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = flows.load("gaussian")
    about = weights.About(status="diverged")
    weights.save(tmp_path / "x.safetensors", module.build(3, module.Options()), "gaussian", module.Options(), about)
    trained.load(tmp_path / "x.safetensors")
    assert "diverged" in capsys.readouterr().err


def test_an_output_that_cannot_be_is_found_at_once(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Density, "log_prob", lambda self, rows: pytest.fail("it began"))
    Path("folder.csv").mkdir()
    table(5).to_csv("new.csv", index=False)
    content = Path("new.csv").read_bytes()
    for out in ("folder.csv", "nowhere/x.csv", "x.xlsx", "new.csv"):
        with pytest.raises(UsageError, match=out):
            log_prob_command(done.name, "new.csv", Path(out), "cpu")
    assert Path("new.csv").read_bytes() == content


def test_on_the_command_line(done: Done) -> None:
    drawn = flowbench("sample", done.name, "-n", "4", "--out", "drawn.csv")
    assert (drawn.returncode, drawn.stdout) == (0, "")
    assert "4 samples written to drawn.csv" in drawn.stderr
    scored = flowbench("log-prob", done.name, "--data", "drawn.csv")
    assert scored.returncode == 0
    name, *lls = scored.stdout.splitlines()
    assert name == "log_prob"
    np.testing.assert_allclose([float(ll) for ll in lls], log_prob(done, pd.read_csv("drawn.csv")), atol=1e-5)
