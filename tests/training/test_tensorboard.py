"""Curves for TensorBoard, read back as it reads them; without it, the option ends before anything is trained."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flowbench.cli.app import app
from flowbench.errors import UsageError
from flowbench.sweep.spec import Job
from flowbench.training import curves
from flowbench.training.carry_out import How, carry_out, name_of, order_of
from flowbench.training.order import Order
from flowbench.training.state import Epoch

TAGS = {
    "log_likelihood_nats/train", "log_likelihood_nats/validation", "training/learning_rate", "training/gradient_norm",
    "training/rows_per_second",
}  # fmt: skip

needed = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="the extra tensorboard is missing")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowbench.training.run.time_flow", lambda flow, rows: [])


@pytest.fixture
def order(tmp_path: Path) -> Order:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32))
    settings = {"hidden": [8], "transforms": 1, "max_epochs": 4, "batch_size": 40}
    return Order(flow="maf", data=str(tmp_path / "mine.npy"), device="cpu", settings=settings, tensorboard=True)


def read(place: Path) -> dict[str, dict[int, float]]:
    """Of each tag the values by step, none of which is there twice."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(place), size_guidance={"tensors": 0}).Reload()
    found = {}
    for tag in events.Tags()["tensors"]:
        points = events.Tensors(tag)
        found[tag] = {point.step: make_ndarray(point.tensor_proto).item() for point in points}
        assert len(found[tag]) == len(points), tag
        assert sorted(point.wall_time for point in points) == [point.wall_time for point in points]
    text = found.pop("run/text_summary")
    assert list(text) == [0]
    assert b"| training.max_epochs | 4 |" in text[0]
    return found


def epochs(n: int) -> Iterator[Epoch]:
    for i in range(1, n + 1):
        yield Epoch(i, n, math.nan if i == 1 else -1.0, -2.0 / i, True, 80, 0.5, 0.6 * i, 1e-3, 1.0)


@needed
def test_a_runs_curves_are_its_history(order: Order, tmp_path: Path) -> None:
    record = carry_out(order, tmp_path / "with", How())
    found = read(tmp_path / "with" / "tensorboard" / record.run)
    history = record.training.history
    assert set(found) == TAGS | {"log_likelihood_nats/test"}
    shown = found["log_likelihood_nats/validation"]
    assert list(shown) == [1, 2, 3, 4]
    np.testing.assert_allclose(list(shown.values()), history.validation_ll_nats, rtol=1e-6)
    assert list(found["log_likelihood_nats/test"].values()) == [
        pytest.approx(record.likelihoods.test_ll_nats.mean, rel=1e-6)
    ]
    without = order.model_copy(update={"tensorboard": False})
    assert name_of(without) == record.run
    carry_out(without, tmp_path / "without", How())
    assert not (tmp_path / "without" / "tensorboard").exists()


@needed
@pytest.mark.parametrize("asked", [True, False])
def test_a_run_that_goes_on_has_all_epochs_once(
    order: Order, tmp_path: Path, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it had curves before or not; the order that it is gone on with remembers that it has."""
    results, shown = tmp_path / "results", curves.Curves.show

    def broken_off(own: curves.Curves, all_of: list[Epoch]) -> None:
        shown(own, all_of)
        if len(all_of) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(curves.Curves, "show", broken_off)
        with pytest.raises(KeyboardInterrupt):
            carry_out(order, results, How())
    name = name_of(order)
    assert order_of(name, results).tensorboard
    (path,) = (results / "tensorboard" / name).iterdir()
    if not asked:
        path.unlink()
    carry_out(order_of(name, results), results, How())
    found = read(results / "tensorboard" / name)
    assert all(list(found[tag]) == [1, 2, 3, 4] for tag in TAGS)
    carry_out(order, results, How(force=True))  # a finished one anew
    again = read(results / "tensorboard" / name)
    assert all(list(again[tag]) == [1, 2, 3, 4] for tag in TAGS)


@needed
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_told_once_and_ends_the_curves_alone(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: open("/dev/full", "wb"))  # noqa: SIM115
    drawn = curves.Curves(tmp_path, "run", order.config())
    for n in (1, 2, 3):
        drawn.show(list(epochs(n)))
    drawn.test(-1.0, 3)
    drawn.close()
    assert capsys.readouterr().err.count("No space left") == 1


@needed
def test_where_no_folder_can_be_made_the_run_is_done_all_the_same(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "tensorboard").write_text("in the way")
    assert carry_out(order, results, How()).status == "ok"
    assert capsys.readouterr().err.count("TensorBoard's curves end here") == 1


def test_without_it_nothing_takes_time(order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(Order, "dataset", lambda own: pytest.fail("data were loaded"))
    with pytest.raises(UsageError, match="tensorboard is not installed") as refused:
        carry_out(order, tmp_path / "results", How())
    assert refused.value.hint == "pip install 'flowbench[tensorboard]'"


@needed
def test_a_sweep_asks_for_those_of_each_run_and_is_called_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Job] = []
    monkeypatch.setattr("flowbench.sweep.run.carry_out_all", lambda jobs, *more: asked.extend(jobs) or [])
    words = ["sweep", "maf", "--data", "digits", "--seeds", "2", "--tensorboard", "--out", str(tmp_path)]
    CliRunner().invoke(app, words)
    assert [job.order.tensorboard for job in asked] == [True, True]
    refused = CliRunner().invoke(app, [*words, "--ray", "auto"])
    assert refused.exit_code == 2
    assert "no curves of runs on a cluster" in " ".join(refused.output.split())
