"""The command line as a user meets it: output, files, messages and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import flowbench

TINY = ["--set", "hidden=8", "--set", "transforms=1", "--max-epochs", "1", "--set", "batch_size=2000"]


def from_nothing(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process that has nothing imported, and times as it does at a user's."""
    command = [sys.executable, "-m", "flowbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def train(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    return flowbench("train", *arguments, "--out", str(out))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_a_run_leaves_its_row_likelihoods_and_weights(results: Path) -> None:
    done = from_nothing("train", "maf", "--data", "truth-gaussian", *TINY, "--out", str(results))
    assert done.returncode == 0, done.stderr
    assert "test log-likelihood" in done.stdout
    assert "below the truth" in done.stdout
    assert "epoch 1/1" in done.stderr
    (row,) = rows(results)
    files = row["files"]
    assert {path.name for path in results.iterdir()} == {f"{row['run']}.json", *files.values()}
    lls = np.load(results / files["test_lls"])
    assert lls.mean() == pytest.approx(row["likelihoods"]["test_ll_nats"]["mean"])
    assert row["status"] == "ok"
    assert all(check["passed"] for check in row["checks"].values())
    assert [timing["batch"] for timing in row["timings"]] == [100, 1000]


def test_a_finished_run_is_not_trained_again_without_force(results: Path) -> None:
    arguments = ("realnvp", "--data", "truth-banana", *TINY)
    assert train(*arguments, out=results).returncode == 0
    (before,) = rows(results)
    again = train(*arguments, out=results)
    assert again.returncode == 0
    assert "already finished" in again.stderr
    assert rows(results) == [before]
    assert train(*arguments, "--force", out=results).returncode == 0
    assert rows(results) != [before]


def test_a_table_is_the_same_table_by_another_path(tmp_path: Path, results: Path) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(500, 2)))
    assert train("gaussian", "--data", str(tmp_path / "mine.npy"), out=results).returncode == 0
    again = flowbench("train", "gaussian", "--data", "./mine.npy", "--out", str(results), cwd=tmp_path)
    assert "already finished" in again.stderr


def test_json_is_one_document_and_nothing_else(results: Path) -> None:
    trained = train("gaussian", "--data", "truth-banana", "--json", out=results)
    assert json.loads(trained.stdout)["task"]["flow"] == "gaussian"
    compared = flowbench("compare", "--json", "--out", str(results))
    assert json.loads(compared.stdout)["tables"][0]["data"] == "truth-banana"
    listed = json.loads(flowbench("list", "--json").stdout)
    assert {"maf", "iaf", "realnvp", "gaussian"} <= {flow["name"] for flow in listed["flows"]}
    assert "funnel" in listed["targets"]


def test_a_table_of_ones_own(tmp_path: Path, results: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3)) * [1, 10, 100]
    path = tmp_path / "mine.csv"
    np.savetxt(path, values, delimiter=",", header="a,b,c", comments="")
    done = train("gaussian", "--data", str(path), out=results)
    assert done.returncode == 0, done.stderr
    (row,) = rows(results)
    entropy = 1.5 * np.log(2 * np.pi * np.e) + np.log(1000)
    assert row["likelihoods"]["test_ll_own_units_nats"] == pytest.approx(-entropy, abs=0.5)
    assert "in the data's own units" in done.stdout


def test_published_splits_are_taken_as_they_are(tmp_path: Path, results: Path) -> None:
    """Two files of test rows make two lines that are never paired; one cache serves the seeds of each."""
    random = np.random.default_rng(0)
    for name, n in {"train": 400, "val": 50, "test": 60, "other": 60}.items():
        np.save(tmp_path / f"{name}.npy", random.normal(size=(n, 2)))
    files = ("--data", str(tmp_path / "train.npy"), "--validation-data", str(tmp_path / "val.npy"))
    for test, seed in (("test", "0"), ("test", "1"), ("other", "0")):
        done = train("maf", *files, "--test-data", str(tmp_path / f"{test}.npy"), "--seed", seed, *TINY, out=results)
        assert done.returncode == 0, done.stderr
    found = [row["task"] for row in rows(results)]
    assert len(found) == 3
    for task in found:
        assert (task["n_train"], task["n_validation"], task["n_test"]) == (400, 50, 60)
        assert task["data"] == "train.npy"
        assert task["split_seed"] is None
    assert (
        len({task["data_fingerprint"] for task in found}) == len({task["rows_sha256"]["test"] for task in found}) == 2
    )
    compared = json.loads(flowbench("compare", "--json", "--out", str(results)).stdout)["tables"]
    assert sorted(len(line["runs"]) for table in compared for line in table["lines"]) == [1, 2]
    assert len(compared) == 2
    idle = train("maf", *files, "--test-data", str(tmp_path / "test.npy"), "--split", "time", out=results)
    assert idle.returncode == 2
    named = flowbench("sweep", "maf", "--data", "digits", "--test-data", str(tmp_path / "test.npy"), "--dry-run")
    assert named.returncode == 2
    assert "splits of its own" in named.stderr


def test_one_column_is_a_table_too(tmp_path: Path, results: Path) -> None:
    np.save(tmp_path / "one.npy", np.random.default_rng(0).normal(size=(500, 1)))
    for flow in ("maf", "iaf", "realnvp"):
        done = train(flow, "--data", str(tmp_path / "one.npy"), *TINY, out=results)
        assert done.returncode == 0, done.stderr
        assert "one column" in done.stderr


def test_a_small_table_has_no_standard_error_and_still_one_document(tmp_path: Path, results: Path) -> None:
    np.save(tmp_path / "[b]small.npy", np.random.default_rng(0).normal(size=(12, 2)))
    done = train("maf", "--data", str(tmp_path / "[b]small.npy"), *TINY, "--json", out=results)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["likelihoods"]["test_ll_nats"]["stderr"] is None
    again = train("maf", "--data", str(tmp_path / "[b]small.npy"), *TINY, out=results)
    assert "maf on [b]small.npy" in again.stdout


def test_a_forced_run_that_ends_badly_leaves_the_finished_one(results: Path) -> None:
    arguments = ["gaussian", "--data", "truth-banana", "--out", str(results)]
    assert flowbench("train", *arguments).returncode == 0
    (before,) = rows(results)
    broken = (
        "import sys, flowbench.training.checks, flowbench.__main__\n"
        "flowbench.training.checks._roundtrip = lambda flow, x: (1.0, 0.0, 'inverse(forward(x))')\n"
        "sys.argv = sys.argv[1:]\nflowbench.__main__.main()"
    )
    run = [sys.executable, "-c", broken, "flowbench", "train", *arguments, "--force"]
    failed = subprocess.run(run, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "inverse(forward(x))" in failed.stderr
    after = {str(row["run"]): row for row in rows(results)}
    assert after.pop(str(before["run"])) == before
    (bad,) = after.values()
    assert bad["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mav"], 2, "did you mean maf?"),
        (["maf", "--data", "truth-banan"], 2, "did you mean truth-banana?"),
        (["maf", "--set", "hiden=3"], 2, "did you mean hidden?"),
        (["maf", "--recipe", "papr"], 2, "did you mean paper?"),
        (["maf", "--device", "gpu"], 2, "unknown device 'gpu'"),
        (["maf", "--device", "cuda:99"], 2, "no device 'cuda:99'"),
        (["maf", "--max-epochs", "-1"], 2, "--max-epochs"),
        (["maf", "--seed", "-1"], 2, "--seed"),
        (["maf", "--threads", "1000000000"], 2, "--threads"),
        (["maf", "--max-seconds", "0"], 2, "max_seconds"),
        (["maf", "--data", "nowhere.csv"], 4, "nowhere.csv"),
        (["maf", "--data", ""], 2, "there is no dataset ''"),
        (["maf", "--data", "\udcff.csv"], 2, "\\udcff.csv is not UTF-8"),
        (["../maf"], 2, "unknown flow '../maf'"),
        (["~nobody-at-all/x.py"], 2, "no such user"),
        (["maf", "--set", "hidden=true"], 2, "hidden: a number is wanted"),
    ],
)
def test_a_wrong_argument_has_its_message_and_code(
    arguments: list[str], code: int, message: str, results: Path
) -> None:
    done = train(*arguments, out=results)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not results.exists()


def test_missing_raw_files_say_where_from_and_where_to(tmp_path: Path, results: Path) -> None:
    done = flowbench("train", "maf", "--data", "mnist", "--out", str(results), FLOWBENCH_DATA_DIR=str(tmp_path))
    assert done.returncode == 4
    assert "train-images-idx3-ubyte.gz" in done.stderr
    assert "http" in done.stderr
    assert str(tmp_path / "mnist") in done.stderr


def test_a_results_folder_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = train("maf", out=tmp_path / "file" / "results")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "epoch" not in done.stderr


def test_a_diverged_run_is_recorded_and_fails(results: Path) -> None:
    settings = ["learning_rate=1e9", "clip_norm=none", "log_scale_bound=none", "batch_norm=false", "warmup_steps=0"]
    sets = [argument for setting in settings for argument in ("--set", setting)]
    done = train("maf", "--data", "truth-banana", *TINY, *sets, out=results)
    assert done.returncode == 1
    assert "epoch 1, step" in done.stderr
    (row,) = rows(results)
    assert row["status"] == "diverged"
    assert row["likelihoods"]["test_ll_nats"] is None
    assert "epoch 1, step" in str(row["error"])
    again = train("maf", "--data", "truth-banana", *TINY, *sets, "--json", out=results)
    assert (again.returncode, json.loads(again.stdout)["status"]) == (1, "diverged")
    assert "learning_rate" in again.stderr


def test_a_run_that_never_had_a_finite_validation_is_recorded_too(tmp_path: Path, results: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 2))
    np.save(tmp_path / "far.npy", values)
    broken = (
        "import sys, math, numpy, flowbench.training.objective, flowbench.__main__\n"
        "flowbench.training.objective.log_likelihoods = lambda flow, rows: numpy.array([math.nan])\n"
        "sys.argv = sys.argv[1:]\nflowbench.__main__.main()"
    )
    arguments = ["train", "maf", "--data", str(tmp_path / "far.npy"), *TINY, "--out", str(results)]
    run = [sys.executable, "-c", broken, "flowbench", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not finite in any of 1 epochs" in done.stderr
    (row,) = rows(results)
    training = row["training"]
    assert (row["status"], training["epochs"], training["best_epoch"]) == ("diverged", 1, None)


def test_what_the_system_refuses_is_no_defect(tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    folder.symlink_to(folder)  # opened by nobody, not even by root
    done = flowbench("list", FLOWBENCH_DATA_DIR=str(folder))
    assert done.returncode in (0, 4)
    done = flowbench("train", "gaussian", "--data", "gas", FLOWBENCH_DATA_DIR=str(folder))
    assert done.returncode == 4
    assert "defect" not in done.stderr
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "flowbench", "list"]
        failed = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert failed.returncode == 4
    assert "No space left" in failed.stderr
    assert "defect" not in failed.stderr


def test_streams_that_are_no_utf8_are_no_reason_to_fail() -> None:
    reference = Path(__file__).parents[2] / "results" / "reference"
    command = [sys.executable, "-m", "flowbench", "compare", "--out", str(reference)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\\xb1" in done.stdout


def test_nothing_to_compare_is_code_3(results: Path) -> None:
    done = flowbench("compare", "--out", str(results))
    assert done.returncode == 3
    assert "no results were found" in done.stderr


def test_a_crash_shows_a_traceback_only_with_debug(results: Path, tmp_path: Path) -> None:
    results.mkdir()
    broken = "import flowbench.report.ranking.tables, flowbench.__main__, sys\n"
    broken += "flowbench.report.ranking.tables.tables = lambda *given: 1 / 0\n"
    broken += "sys.argv = sys.argv[1:]\nflowbench.__main__.main()"
    run = [sys.executable, "-c", broken, "flowbench"]
    quiet = subprocess.run([*run, "compare", "--out", str(results)], capture_output=True, text=True, check=False)
    loud = subprocess.run(
        [*run, "--debug", "compare", "--out", str(results)], capture_output=True, text=True, check=False
    )
    assert (quiet.returncode, loud.returncode) == (1, 1)
    assert "Traceback" not in quiet.stderr
    assert "ZeroDivisionError" in quiet.stderr
    assert "Traceback" in loud.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["sample", "--help"], ["compare"], ["list"], ["cache"], ["fetch", "digits"]],
)
def test_torch_stays_away_where_it_is_not_needed(arguments: list[str]) -> None:
    program = (
        "import sys, flowbench.__main__\nsys.argv = sys.argv[1:]\n"
        "try: flowbench.__main__.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    run = [sys.executable, "-c", program, "flowbench", *arguments]
    environment = os.environ | {"FLOWBENCH_RESULTS_DIR": str(Path(__file__).parents[2] / "results" / "reference")}
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_version_is_printed() -> None:
    from flowbench import __version__

    assert flowbench("--version").stdout.strip() == __version__
