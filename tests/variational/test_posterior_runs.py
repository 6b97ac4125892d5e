"""Posteriors from an order to a record, and records beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latent_cases import POSTERIORS, quick_for, trained
from typer.testing import CliRunner

from flowbench import data
from flowbench.cli.app import app
from flowbench.errors import DataError, UsageError
from flowbench.report.gate.baseline import Comparison
from flowbench.report.variational.tables import posteriors as tables
from flowbench.results import store, trainings
from flowbench.results.merging import merge
from flowbench.results.variational import PosteriorRecord
from flowbench.seeds import stream
from flowbench.training.order import How
from flowbench.variational import course, saved
from flowbench.variational.bound import LatentModel
from flowbench.variational.evaluation import evaluate
from flowbench.variational.order import PosteriorOrder
from flowbench.variational.pixels import binarised
from flowbench.variational.posterior import Posterior


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("posteriors")


@pytest.fixture(scope="module")
def records(folder: Path) -> dict[str, PosteriorRecord]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "time_posterior", lambda posterior, rows: [])  # seconds
        names = [*(name for name in POSTERIORS if not name.startswith("nsf"))]
        return {name: trained(name, folder) for name in names}


def test_a_record_has_its_bound_and_rows(records: dict[str, PosteriorRecord], folder: Path) -> None:
    for name, record in records.items():
        assert record.status == "ok", record.error
        found = store.read_as(PosteriorRecord, folder / f"{record.run}.json")
        assert found == record
        rows = store.read_test_lls(record, folder)
        assert rows is not None
        bound = record.bound
        assert bound.bound_nats is not None
        assert bound.log_likelihood_nats is not None
        assert rows.mean() == pytest.approx(bound.bound_nats.mean, abs=1e-4)
        assert bound.log_likelihood_nats.mean >= bound.bound_nats.mean
        assert bound.reconstruction_nats.mean - bound.kl_nats.mean == pytest.approx(bound.bound_nats.mean, abs=1e-4)
        assert (record.task.flow, record.task.data) == (name, "digits-binarised")
        assert set(record.checks) == {"not_finite", "both_ways", "log_det"}


def test_a_finished_one_is_found_again(records: dict[str, PosteriorRecord], folder: Path) -> None:
    assert trained("iaf", folder).started_at == records["iaf"].started_at


def test_the_table_ranks_by_validation_and_pairs_rows(records: dict[str, PosteriorRecord], folder: Path) -> None:
    others = trainings.Others()
    assert store.read_all(folder, on_other=others.keep) == {}
    (table,) = tables(others.posteriors)
    values = [row.record.bound.validation_bound_nats for row in table.rows]
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    best, second, *_ = table.rows
    assert best.to_best is None
    rows = [store.read_test_lls(row.record, folder) for row in (second, best)]
    assert second.to_best is not None
    assert second.to_best.mean == pytest.approx((rows[0] - rows[1]).mean())  # type: ignore[operator]
    assert [each.data for each in tables(others.posteriors, "digits", "iaf")] == ["digits-binarised"]
    assert tables(others.posteriors, "mnist") == []


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_compare_prints_them_in_each_form(records: dict[str, PosteriorRecord], folder: Path) -> None:
    text = command("compare", str(folder))
    assert "posteriors on digits-binarised · 179 test rows" in text
    assert all(record.model in text for record in records.values())
    document = json.loads(command("compare", str(folder), "--json"))
    assert [row["record"]["task"]["flow"] for row in document["posteriors"][0]["rows"]]
    assert "posterior," in command("compare", str(folder), "--format", "csv")
    assert "| posterior |" in command("compare", str(folder), "--format", "markdown")
    assert r"\toprule" in command("compare", str(folder), "--format", "latex")
    claims = json.loads(command("compare", str(folder), "--claims", "--json"))["claims"]
    (suits,) = [claim for claim in claims if "suits a variational posterior" in claim["claim"]]
    assert suits["findings"][0]["verdict"] in ("holds", "does not hold")


def test_the_published_table_stands_beside_mnist() -> None:
    from flowbench.results.published import published_posteriors

    found = published_posteriors("mnist-binarised")
    assert [entry.bound_nats[0] for entry in found] == [-80.80, -82.02, -84.08]
    assert found[-1].log_likelihood_nats == (-81.08, 0.08)


def test_the_gate_compares_bounds(records: dict[str, PosteriorRecord], folder: Path, tmp_path: Path) -> None:
    worse = tmp_path / "worse"
    record = records["iaf"]
    rows = store.read_test_lls(record, folder)
    assert rows is not None
    store.write(record, worse, rows - 1 + 0.01 * np.random.RandomState(0).normal(size=len(rows)))
    found = {finding.what: finding.verdict for finding in Comparison(worse, folder).findings(0.02)}
    assert found["posterior iaf 1 × (1×8) on digits-binarised"] == "worse"
    assert set(found.values()) == {"worse", "missing"}
    same = tmp_path / "same"
    merge([folder], same)
    assert {finding.verdict for finding in Comparison(same, folder).findings(0.02)} == {"same"}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_broken_off_run_goes_on_with_the_same_bits(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "time_posterior", lambda posterior, rows: [])
    whole = trained("iaf", tmp_path / "whole", averaging=0.9)
    steps = 0
    step = LatentModel.backpropagate

    def breaking(self: Any, x: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 21:
            raise KeyboardInterrupt
        return step(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(LatentModel, "backpropagate", breaking)
        with pytest.raises(KeyboardInterrupt):
            trained("iaf", tmp_path / "parts", averaging=0.9, how=How(checkpoint_every=0.0))
    record = trained("iaf", tmp_path / "parts", averaging=0.9)
    assert record.bound == whole.bound
    assert not (tmp_path / "parts" / "unfinished").exists()


def test_a_planted_sign_is_caught_where_the_truth_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "time_posterior", lambda posterior, rows: [])
    assert trained("full-gaussian", tmp_path, "truth-linear").status == "ok"
    draw = Posterior.draw

    def planted(self: Posterior, encoded: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z, log_prob = draw(self, encoded, noise)
        own = torch.distributions.Normal(0, 1).log_prob(noise).sum(1)
        return z, 2 * own - log_prob

    monkeypatch.setattr(Posterior, "draw", planted)
    record = trained("full-gaussian", tmp_path, "truth-linear", max_steps=300)
    assert record.status == "failed"
    assert not record.checks["below_truth"].passed
    assert not record.checks["log_det"].passed


@pytest.mark.parametrize(
    ("flow", "data_name", "settings", "said"),
    [
        ("iaf", "patches", {}, "no set of pictures"),
        ("iaf", "./table.csv", {}, "no set of pictures"),
        ("kde", "digits", {}, "cannot be conditioned"),
        ("maf-mog", "digits", {}, "no gradient leads"),
        ("iaf", "digits", {"batch_norm": True}, "takes statistics"),
        ("iaf", "truth-linear", {"latents": 5}, "has 6 latents"),
        ("iaf", "truth-linear", {"networks": "resnet"}, "no square picture"),
        ("iaff", "digits", {}, "unknown flow"),
        ("iaf", "digits", {"latent": 5}, "no setting"),
        ("iaf", "digits", {"latents": 0}, "latents"),
    ],
)
def test_what_is_no_posterior_is_refused(
    flow: str, data_name: str, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        trained(flow, tmp_path, data_name, **settings)


def test_pixels_come_back_and_are_drawn_once() -> None:
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    found, again = binarised(digits), binarised(digits)
    assert set(np.unique(found.test)) == {0.0, 1.0}
    np.testing.assert_array_equal(found.test, again.test)
    levels = np.rint(np.concatenate([found.train * 16, np.zeros((0, 64))]))
    known = {row.tobytes() for row in load_digits().data.astype(np.float64)}
    assert sum(row.tobytes() in known for row in levels.astype(np.float64)) == len(levels)
    assert found.name == "digits-binarised"
    assert found.fingerprint != digits.fingerprint


def test_the_command_and_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "time_posterior", lambda posterior, rows: [])
    quick = [part for key, value in quick_for("diagonal").items() for part in ("--set", f"{key}={value}")]
    found = json.loads(command("posterior", "diagonal", "--out", str(tmp_path), "--json", *quick, "--set", "latents=1"))
    assert found["kind"] == "posterior"
    assert found["bound"]["latents"] == 1
    settings = json.loads(command("posterior", "iaf", "--settings", "--json"))["settings"]
    assert {"latents", "hidden", "averaging"} <= {setting["name"] for setting in settings}
    paper = PosteriorOrder(flow="iaf", data="mnist", recipe="paper", device="cpu").config()
    assert (paper.latent.networks, paper.latent.encoder, paper.training.optimizer) == ("resnet", (16, 32, 32), "adamax")


def test_weights_are_read_back_and_damaged_ones_refused(records: dict[str, PosteriorRecord], folder: Path) -> None:
    record = records["iaf"]
    path = folder / str(record.files.weights)
    model, config = saved.load(path)
    assert config.latent.latents == 16
    rows = torch.from_numpy(np.array(binarised(data.load("digits")).test))
    bound = evaluate(model, rows, 8, stream(0, "latents")).bound.mean()
    assert record.bound.bound_nats is not None
    assert bound == pytest.approx(record.bound.bound_nats.mean, abs=1e-5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    (damaged := folder / "damaged.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="no readable posterior"):
        saved.load(damaged)


def test_a_page_has_them(records: dict[str, PosteriorRecord], folder: Path, tmp_path: Path) -> None:
    command("report", str(folder), "--out", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "posteriors · digits-binarised" in page
    assert "posteriors on digits-binarised · 179 test rows" in page.partition("<noscript>")[2]


def test_only_like_is_held_against_like(records: dict[str, PosteriorRecord], folder: Path, tmp_path: Path) -> None:
    """An IAF of a larger model says nothing of a diagonal posterior of a smaller one."""
    merge([folder], tmp_path)
    for path in tmp_path.glob("diagonal-*.json"):
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "time_posterior", lambda posterior, rows: [])
        trained("diagonal", tmp_path, latents=2)
    claims = json.loads(command("compare", str(tmp_path), "--claims", "--json"))["claims"]
    (suits,) = [claim for claim in claims if "suits a variational posterior" in claim["claim"]]
    assert [finding["verdict"] for finding in suits["findings"]] == ["not measured"]


def test_times_are_read_only_where_wanted(records: dict[str, PosteriorRecord], folder: Path, tmp_path: Path) -> None:
    merge([folder], tmp_path / "all")
    (tmp_path / "all" / "time-x.json").write_text('{"schema_version": 2, "kind": "time", "run": 3}')
    (tmp_path / "all" / "odd.json").write_text('{"schema_version": 2, "kind": [], "run": 3}')
    seen: list[Path] = []
    trainings.read_all(tmp_path / "all", lambda path, error: seen.append(path))
    assert seen == []
    others = trainings.Others(trainings.TRAINED | {"time"})
    store.read_all(tmp_path / "all", lambda path, error: seen.append(path), others.keep)
    assert [path.name for path in seen] == ["time-x.json"]
    assert len(others.posteriors) == len(records)
