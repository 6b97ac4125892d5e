"""``flowbench fit-target``: a run from order to record, and records beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import flowbench
from pydantic_core import to_json
from rich.console import Console
from target_cases import Correlated
from torch import Tensor
from typer.testing import CliRunner

from flowbench.cli.app import app
from flowbench.cli.settings import show_target_settings
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.progress import Progress
from flowbench.report.gate.baseline import Comparison
from flowbench.report.runs import names_of, other_rows
from flowbench.report.variational.summary import target_summary
from flowbench.report.variational.tables import fits
from flowbench.report.variational.targets import as_sheet
from flowbench.report.variational.written import targets_document
from flowbench.results import carried, store
from flowbench.results.trainings import Others
from flowbench.results.variational import TargetRecord
from flowbench.training import clock
from flowbench.training.carry_out import carry_out_by, order_of
from flowbench.training.order import How
from flowbench.training.schedule import Schedule
from flowbench.variational.gaussians import Standard
from flowbench.variational.noise_rows import noise_rows
from flowbench.variational.options import GAUSSIANS
from flowbench.variational.posterior import Posterior
from flowbench.variational.target_order import TargetOrder
from flowbench.variational.target_run import TargetCourse

SETTINGS = {"hidden": [16], "transforms": 2, "max_steps": 200, "annealing_steps": 150}


@pytest.fixture(scope="module", autouse=True)
def _times_are_short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "SECONDS", 0.01)
        yield


def test_orders_of_nothing_that_is_there_are_refused() -> None:
    for flow, target, message in (("iaf", "energy-5", "unknown target"), ("iav", "funnel", "unknown flow 'iav'")):
        with pytest.raises(UsageError, match=message):
            TargetOrder(flow=flow, data=target).config()
    with pytest.raises(UsageError, match="has no setting"):
        TargetOrder(flow="diagonal", data="funnel", settings={"hidden": 3}).config()


def test_noise_is_the_same_for_all_that_are_fitted_to_a_version_of_a_target() -> None:
    one, again, newer = noise_rows("a", 1, 2), noise_rows("a", 1, 2), noise_rows("a", 2, 2)
    assert np.array_equal(one.test, again.test)
    assert abs(one.test.mean()) < 0.01
    assert one.test.std() == pytest.approx(1, abs=0.01)
    for other in (newer, noise_rows("b", 1, 2)):
        assert one.fingerprint != other.fingerprint
        assert not np.array_equal(one.test, other.test)
        assert not np.array_equal(one.validation, other.validation)


@pytest.mark.parametrize("batch_size", [None, 1, 333, 30_000, 70_000])
def test_a_step_draws_what_was_asked(batch_size: int | None) -> None:
    order = TargetOrder(flow="diagonal", data="energy-1", settings={"batch_size": batch_size})
    schedule = Schedule(order.config().training, len(order.dataset().train))
    assert {batch.stop - batch.start for batch in schedule.batches} == {batch_size or 500}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on energy-2, an IAF's and a Gaussian's."""
    folder = tmp_path_factory.mktemp("results")
    for flow, settings in (("iaf", SETTINGS), ("diagonal", {"max_steps": 200})):
        carry_out_by(TargetCourse, TargetOrder(flow=flow, data="energy-2", settings=settings), folder, How())
    return folder


def records(folder: Path) -> dict[str, TargetRecord]:
    others = Others()
    assert store.read_all(folder, on_other=others.keep) == {}
    return {record.task.flow: record for record in others.fits.values()}


def test_a_short_fit_knows_log_z(results: Path) -> None:
    for record in records(results).values():
        fit = record.fit
        assert record.status == "ok"
        assert all(check.passed for check in record.checks.values())
        assert fit.log_z_nats.mean == pytest.approx(fit.true_log_z_nats, abs=0.1)
        assert fit.bound_nats.mean < fit.true_log_z_nats
        assert fit.steps == 200
        assert {cost.direction for cost in record.costs} == {"sample", "density"}
    assert "by passes" in shown(target_summary(records(results)["iaf"]))


def test_a_record_is_read_as_it_was_written_and_is_carried(results: Path) -> None:
    for path in results.glob("*.json"):
        record = store.read_as(TargetRecord, path)
        assert record.model_dump(mode="json") == json.loads(path.read_text())
        assert carried.read(path).kind == "target"
        lls = store.read_test_lls(record, results)
        assert lls is not None
        assert lls.mean() == pytest.approx(record.fit.bound_nats.mean, abs=1e-4)


def test_fits_stand_beside_each_other(results: Path) -> None:
    others = Others()
    store.read_all(results, on_other=others.keep)
    found = others.fits
    (table,) = fits(found, data="energy-2")
    assert table.data == "target-energy-2"
    assert fits(found, data="funnel") == fits(found, flow="maf") == []
    best, other = table.rows
    assert best.record.task.flow == "iaf"
    assert other.to_best is not None
    assert other.to_best.mean < 0
    sheet = as_sheet(table)
    assert "log Z is 2.2002" in sheet.heading
    assert to_json(targets_document([table]), inf_nan_mode="constants").count(b'"kind":"target"') == 2


def test_fits_to_another_version_of_a_target_are_not_compared(results: Path) -> None:
    """What a change of a target's density gives: two tables, and a gate that cannot tell."""
    old, new = records(results)["iaf"], noise_rows("energy-2", 2, 2)
    changed = {"data_version": 2, "data_fingerprint": new.fingerprint, "rows_sha256": new.rows_sha256}
    newer = old.model_copy(update={"task": old.task.model_copy(update=changed)})
    assert len(fits({Path("old.json"): old, Path("new.json"): newer})) == 2
    assert "not the same" in (other_rows(old, newer) or "")


@pytest.mark.parametrize("name", ["energy-2", "target-energy-2", None])
def test_the_gate_finds_fits_by_the_name_of_their_target(name: str | None, results: Path, tmp_path: Path) -> None:
    assert [line.record.kind for line in Comparison(results, tmp_path, data=name).lines] == ["target", "target"]
    with pytest.raises(NothingToCompareError):
        Comparison(results, tmp_path, data="energy-1")


def test_a_run_is_of_its_data_by_any_of_its_names(results: Path) -> None:
    run = next(iter(records(results).values()))

    def names(kind: str, data: str) -> set[str]:
        return names_of(run.model_copy(update={"kind": kind, "task": run.task.model_copy(update={"data": data})}))

    assert names("posterior", "mnist~100-binarised") == {"mnist~100-binarised", "mnist~100", "mnist"}
    assert names("run", "power~100") == {"power~100", "power"}
    assert names("run", "target-mine-binarised") == {"target-mine-binarised"}


@pytest.mark.parametrize("option", ["--pairs", "--curve"])
def test_reports_of_runs_alone_say_so(option: str, results: Path) -> None:
    result = CliRunner().invoke(app, ["compare", str(results), option])
    assert result.exit_code == 3
    assert f"{option} is of runs by maximum likelihood" in result.stderr


def test_a_planted_sign_of_log_det_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(self: Posterior, encoded: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        assert self.flow is not None
        z, log_det = self.flow.to_data(noise)
        return z, Standard(2).log_prob(encoded, noise) + log_det

    monkeypatch.setattr(Posterior, "draw", draw)
    order = TargetOrder(flow="iaf", data="energy-1", settings=SETTINGS)
    record = carry_out_by(TargetCourse, order, tmp_path, How())
    assert record.status == "failed"
    assert record.fit.log_z_nats.mean > record.fit.true_log_z_nats + 0.2
    failed = {name for name, check in record.checks.items() if not check.passed}
    assert failed >= {"log_z", "both_ways", "log_det"}


def test_time_ends_a_fit_after_a_step(tmp_path: Path) -> None:
    settings = {"max_steps": 200, "max_seconds": 1e-3}
    record = carry_out_by(TargetCourse, TargetOrder(flow="diagonal", data="funnel", settings=settings), tmp_path, How())
    assert (record.status, record.fit.steps) == ("ok", 1)


class Breaking(Progress):
    """Ctrl-c in the second epoch."""

    breaks = 130

    def step(self, done: int, steps: int) -> None:
        Breaking.breaks -= 1
        if Breaking.breaks == 0:
            raise KeyboardInterrupt


def test_a_broken_off_run_goes_on_to_the_same_bits(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = TargetOrder(flow="iaf", data="energy-2", settings=SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        carry_out_by(TargetCourse, order, tmp_path, How(), Breaking)
    told = capsys.readouterr().err
    goes_on = "flowbench fit-target iaf --target energy-2 --set hidden=16 --set transforms=2"
    assert goes_on in told
    (broken_off,) = (tmp_path / "unfinished").iterdir()
    with pytest.raises(UsageError, match="`flowbench fit-target` goes on with it") as refused:
        order_of(broken_off.name, tmp_path)
    hint = str(refused.value.hint)
    assert hint.startswith(goes_on)
    assert hint.endswith(f"--out {tmp_path}")
    assert carry_out_by(TargetCourse, order, tmp_path, How()).status == "ok"
    for kind in ("npy", "safetensors"):
        (whole,) = results.glob(f"iaf-*.{kind}")
        (broken,) = tmp_path.glob(f"iaf-*.{kind}")
        assert whole.read_bytes() == broken.read_bytes()


@pytest.mark.parametrize("flow", [*GAUSSIANS, "iaf", "maf", "realnvp"])
def test_one_coordinate(flow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Correlated(torch.tensor([[2.0]], dtype=torch.float64), mean=0.5)
    monkeypatch.setattr("flowbench.variational.targets.load", lambda name: target)
    settings = {"max_steps": 100} | ({} if flow in GAUSSIANS else {"hidden": [8], "transforms": 2})
    order = TargetOrder(flow=flow, data="correlated", settings=settings)
    record = carry_out_by(TargetCourse, order, tmp_path, How())
    assert record.status == "ok"
    assert record.fit.kl_nats.mean < 0.5


def test_the_command(tmp_path: Path) -> None:
    words = ["fit-target", "diagonal", "--target", "energy-1", "--set", "max_steps=40", "--out", tmp_path]
    done = flowbench(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "target"
    again = flowbench(*words)
    assert "already finished" in again.stderr
    assert "KL(p || q), forward" in again.stdout


def test_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    show_target_settings("iaf", "energy-1", "fast", as_json=True)
    document = json.loads(capsys.readouterr().out)
    found = {setting["name"]: setting["default"] for setting in document["settings"]}
    assert (document["target"], found["annealing_steps"], found["batch_norm"]) == ("energy-1", 1000, False)
    show_target_settings("diagonal", "funnel", "fast", as_json=False)
    assert "defaults for funnel" in capsys.readouterr().out


def shown(what: object) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()
