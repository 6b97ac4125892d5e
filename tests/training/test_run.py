"""What a run records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowbench import data, flows
from flowbench.config import RunConfig, TrainingOptions
from flowbench.progress import Progress
from flowbench.results import statistics, store
from flowbench.results.record import RunRecord
from flowbench.training import course, run
from flowbench.training.duality import ROWS

CONFIG = RunConfig(
    flow="gaussian", data="truth-banana", recipe="fast", seed=0, device="cpu", threads=1,
    model=flows.load("gaussian").Options(), training=TrainingOptions(),
)  # fmt: skip


def test_another_revision_s_run_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "time_flow", lambda flow, rows: [])
    dataset = data.load("truth-banana")
    record = run.run(CONFIG, dataset, tmp_path, Progress(None))
    assert record.run == course.run_name(CONFIG, dataset)
    assert record.environment.code_digest == course.code_digest()
    assert record.task.rows_sha256 == dataset.rows_sha256
    _has_both_divergences(record, dataset, tmp_path)
    monkeypatch.setattr(course, "code_digest", lambda: "other")
    assert store.finished(tmp_path, course.run_name(CONFIG, dataset)) is None
    assert run.run(CONFIG, dataset, tmp_path, Progress(None)).run != record.run
    assert len(store.read_all(tmp_path)) == 2


def _has_both_divergences(record: RunRecord, dataset: data.Dataset, folder: Path) -> None:
    """Those of the first test rows, which its rows' likelihoods tell to single precision."""
    lls, truth = store.read_test_lls(record, folder), dataset.test_true_ll
    assert lls is not None
    assert truth is not None
    mean, stderr = statistics.paired_difference(truth[:ROWS], lls[:ROWS])
    for found in (record.likelihoods.kl_of_data_nats, record.likelihoods.kl_of_noise_nats):
        assert found is not None
        assert (found.mean, found.stderr) == pytest.approx((mean, stderr), abs=1e-5)
    assert record.checks["duality"].passed


def test_errors_over_photographs_are_recorded_where_test_rows_are_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "time_flow", lambda flow, rows: [])
    dataset = data.load("truth-banana")
    groups = np.arange(len(dataset.test)) % 7
    record = run.run(CONFIG, replace(dataset, test_groups=groups), tmp_path, Progress(None))
    assert store.read(tmp_path / f"{record.run}.json") == record
    assert record.status == "ok"
    lls = store.read_test_lls(record, tmp_path)
    assert lls is not None
    found = record.likelihoods.test_ll_nats
    assert found is not None
    assert (found.mean, found.stderr) == statistics.mean_and_stderr(lls)
    assert found.stderr_by_group == statistics.mean_and_stderr_by_group(lls, groups)[1]
    assert record.task.test_groups == 7
    below = record.likelihoods.nats_below_truth
    assert below is not None
    assert (below.mean, below.stderr) == statistics.paired_difference(dataset.test_true_ll, lls)
    again = run.run(CONFIG, dataset, tmp_path, Progress(None))
    assert again.task.test_groups is None
    assert again.likelihoods.test_ll_nats == found.model_copy(update={"stderr_by_group": None})
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{record.run}.json",
        again.files.weights,
        again.files.test_lls,
    }
