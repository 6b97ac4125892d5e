"""``flowbench compare`` of one folder as a user meets it: options, forms, exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import forked
import pytest
from ranking_cases import rows, write_run
from records import ENVIRONMENT

from flowbench.results import costs, store, sweeps
from flowbench.results.costs import Cost, Shape, TimeRecord
from flowbench.results.sweeps import Sweep

MEANS = {"maf": 0.0, "iaf": -0.003, "realnvp": -0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for flow, mean in MEANS.items():
        write_run(tmp_path / "runs", flow, rows(mean), validation_ll_nats=-mean)
    write_run(tmp_path / "runs", "maf", rows(0.1), data="other")
    return tmp_path / "runs"


def compare(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.flowbench("compare", *arguments, **{"FLOWBENCH_RESULTS_DIR": "/nowhere"} | environment)


def marks(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert (done.returncode, done.stderr) == (0, "")
    return {row["flow"]: row["mark"] for row in csv.DictReader(io.StringIO(done.stdout)) if row["kind"] == "runs"}


def flows(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [row["flow"] for row in csv.DictReader(io.StringIO(done.stdout)) if row["kind"] == "runs"]


def test_the_folder_can_be_named_in_three_ways(folder: Path) -> None:
    printed = compare(str(folder)).stdout
    assert "realnvp" in printed
    assert compare("--out", str(folder)).stdout == printed
    assert compare(FLOWBENCH_RESULTS_DIR=str(folder)).stdout == printed


def test_lines_are_ranked_by_validation_or_as_asked(folder: Path) -> None:
    mine = [str(folder), "--data", "mine", "--format", "csv"]
    assert flows(compare(*mine)) == ["realnvp", "iaf", "maf"]
    assert flows(compare(*mine, "--sort", "test")) == ["maf", "iaf", "realnvp"]
    assert flows(compare(*mine, "--sort", "name")) == ["iaf", "maf", "realnvp"]
    assert flows(compare(str(folder), "--flow", "maf", "--format", "csv")) == ["maf", "maf"]


def test_what_a_sweep_did_not_choose_is_not_best_on_test_rows_either(folder: Path) -> None:
    arguments = [str(folder), "--data", "mine", "--sort", "test", "--format", "csv"]
    (run,) = (path.stem for path in folder.glob("maf-*.json") if store.read(path).task.data == "mine")
    assert marks(compare(*arguments)) == {"maf": "best", "iaf": "tied", "realnvp": ""}
    sweep = Sweep(name="grid", started_at="", ordered={}, runs=[run], not_chosen=[run])
    sweeps.write(sweep, folder / "below")
    assert marks(compare(*arguments)) == {"maf": "not chosen", "iaf": "best", "realnvp": ""}


def test_a_filter_that_matches_nothing_is_code_3(folder: Path) -> None:
    done = compare(str(folder), "--data", "mien")
    assert (done.returncode, done.stdout) == (3, "")
    assert "did you mean mine?" in done.stderr


@pytest.mark.parametrize(
    ("form", "begins"),
    [("table", "mine: 6"), ("markdown", "### mine"), ("latex", "% left out"), ("csv", "data,"), ("json", "{")],
)
@pytest.mark.parametrize("what", [[], ["--pairs"]])
def test_every_form_is_printed_or_written(folder: Path, form: str, begins: str, what: list[str]) -> None:
    arguments = [str(folder), "--data", "mine", *what]
    printed = compare(*arguments, "--format", form)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout.startswith(begins if not what or form != "latex" else r"\begin{table}")
    written = compare(*arguments, "--format", f"{form}={folder}/out")
    assert (written.returncode, written.stdout) == (0, "")
    assert (folder / "out").read_text() == printed.stdout
    if form == "json":
        assert json.loads(printed.stdout)["schema_version"] == 3
        assert compare(*arguments, "--json").stdout == printed.stdout


def test_pairs_are_a_matrix(folder: Path) -> None:
    printed = compare(str(folder), "--pairs", "--data", "mine").stdout
    assert "row − column" in printed
    assert "-0.1970*" in printed
    assert "best" not in printed
    assert compare(str(folder), "--pairs", "--data", "other").returncode == 3


def test_a_curve_needs_a_history_of_the_training(folder: Path) -> None:
    done = compare(str(folder), "--curve")
    assert (done.returncode, done.stdout) == (3, "")
    assert "history" in done.stderr
    history = {name: [1.5] for name in ("train_ll_nats", "validation_ll_nats", "learning_rate", "gradient_norm")}
    write_run(folder, "maf", rows(0.2), data="trained", history=history | {"seconds": [20.0]})
    done = compare(str(folder), "--curve", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["data"], row["validation_ll_nats_within_30_s"]) == ("trained", "1.5")


def test_claims_are_held_against_runs_and_times(folder: Path) -> None:
    figures = {"us_q1": 1.0, "us_q3": 1.0, "first_us": 1.0, "runs": 5, "batch": 1, "model": "realnvp"}
    found = [Cost(work=work, us=us, **figures) for work, us in (("density", 1.0), ("sampling", 9.0))]  # type: ignore[arg-type]
    record = TimeRecord(
        run="time-realnvp",
        data="mine",
        matrix_gflops=1.0,
        shapes=[Shape(flow="realnvp", dim=6, options={}, parameters=9, costs=found)],
        environment=ENVIRONMENT,
        started_at="2026-01-02",
    )
    costs.write(record, folder)
    done = compare(str(folder), "--claims", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    verdicts = [(row["ratio"], row["verdict"]) for row in csv.DictReader(io.StringIO(done.stdout))]
    assert ("9.0", "does not hold") in verdicts
    assert ("", "holds") in verdicts  # of the runs: the MAF is above RealNVP


WRONG = [["--format", "junit"], ["--sort", "luck"], ["--pairs", "--curve"], ["--claims", "--flow", "maf"]]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_word_is_code_2(folder: Path, wrong: list[str]) -> None:
    done = compare(str(folder), *wrong)
    assert (done.returncode, done.stdout) == (2, "")
