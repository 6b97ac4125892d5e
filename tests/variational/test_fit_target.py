"""``flowbench fit-target``: the loss and its gradient, what is known in closed form, and a run from order to record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from flow_cases import shaken
from forked import flowbench
from pydantic_core import to_json
from rich.console import Console
from torch import Tensor

from flowbench import flows
from flowbench.cli.settings import show_target_settings
from flowbench.config import TrainingOptions
from flowbench.errors import UsageError
from flowbench.progress import Progress
from flowbench.report.variational.summary import target_summary
from flowbench.report.variational.tables import fits
from flowbench.report.variational.targets import as_sheet
from flowbench.report.variational.written import targets_document
from flowbench.results import carried, store
from flowbench.results.trainings import Others
from flowbench.results.variational import TargetRecord
from flowbench.training import clock
from flowbench.training.carry_out import carry_out_by
from flowbench.training.loop import Fit
from flowbench.training.order import How
from flowbench.variational.approximation import with_gradients
from flowbench.variational.gaussians import Diagonal, Full, Gaussian, Standard
from flowbench.variational.networks import Same
from flowbench.variational.noise_rows import noise_rows
from flowbench.variational.options import GAUSSIANS
from flowbench.variational.posterior import Posterior
from flowbench.variational.reverse_kl import ReverseKL, TargetModel
from flowbench.variational.target_evaluation import Exact, TargetEvaluation, doubts_of, evaluate, figures
from flowbench.variational.target_order import TargetOrder
from flowbench.variational.target_run import TargetCourse
from flowbench.variational.targets.target import Moments, Target

SETTINGS = {"hidden": [16], "transforms": 2, "max_steps": 200, "annealing_steps": 150}


@pytest.fixture(scope="module", autouse=True)
def _times_are_short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "SECONDS", 0.01)
        yield


class Correlated(Target):
    """p̃ of N(mean, covariance), so that all is known: log Z, and the least KL(q ‖ p) of a diagonal Gaussian."""

    def __init__(self, covariance: Tensor, mean: float = 1.0) -> None:
        super().__init__("correlated", len(covariance), "a Gaussian", "none")
        self.mean, self.covariance = torch.full((self.dim,), mean).to(covariance), covariance
        self.precision = torch.linalg.inv(covariance)

    def forward(self, z: Tensor) -> Tensor:
        off = z - self.mean.to(z)
        return -0.5 * (off @ self.precision.to(z) * off).sum(-1)

    @property
    def log_z(self) -> float:
        return 0.5 * float(torch.logdet(2 * math.pi * self.covariance))

    @property
    def moments(self) -> Moments:
        zero = torch.zeros(self.dim, dtype=torch.float64)
        return Moments(self.mean.double(), self.covariance.diagonal().sqrt().double(), zero, zero, "closed form")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, self.dim, generator=generator)
        return self.mean.float() + noise @ torch.linalg.cholesky(self.covariance).float().T

    @property
    def least_kl(self) -> float:
        """Of a diagonal Gaussian, whose variances are then 1 / Λ_ii."""
        return 0.5 * float(torch.logdet(self.covariance) + self.precision.diagonal().log().sum())


def correlated(dim: int = 3) -> Correlated:
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Correlated(factor @ factor.T + 0.5 * torch.eye(dim, dtype=torch.float64))


def fitted(target: Target, gaussian: Gaussian, steps: int = 600, annealing: int = 0) -> TargetModel:
    """By the loop that runs take."""
    torch.manual_seed(0)
    model = TargetModel(target, Posterior(Same(gaussian.parameters), gaussian, None), annealing)
    rows = noise_rows("correlated", 1, target.dim)
    train, validation = (torch.from_numpy(np.array(part)) for part in (rows.train, rows.validation))
    options = TrainingOptions(batch_size=500, max_steps=steps, learning_rate=2e-2, averaging=0.99, plateau=None)
    Fit(ReverseKL(model), train, validation[:2000], options, 0).run()
    return model


def noise_of(target: Target) -> Tensor:
    return torch.from_numpy(np.array(noise_rows("correlated", 1, target.dim).test[:20_000]))


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("name", ["made", "maf", "iaf", "realnvp", "nsf-ar", "nsf-c"])
def test_the_gradient_is_that_of_the_equations(
    name: str, dim: int, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = shaken(name, dim, batch_norm=False)
    model = TargetModel(correlated(dim), Posterior(Same(0), Standard(dim), flow)).double()
    noise = torch.randn(7, dim)
    monkeypatch.setattr(torch, "randn_like", lambda x: noise)
    loss = model.backpropagate(torch.zeros(7, dim))
    found = [parameter.grad.clone() for parameter in flow.parameters() if parameter.grad is not None]
    flow.zero_grad()
    z, log_det = flow.transform.inverse(noise)  # as it is written, by autograd
    log_noise = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(1)
    expected = (log_noise - log_det - model.target(z)).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, [p.grad for p in flow.parameters() if p.grad is not None])


def test_a_diagonal_gaussian_reaches_what_is_known_in_closed_form_and_a_full_one_the_target() -> None:
    target = correlated()
    kl = {}
    for name, gaussian in (("diagonal", Diagonal(3)), ("full-gaussian", Full(3))):
        found = figures(evaluate(fitted(target, gaussian), noise_of(target)), target)
        kl[name] = found["kl_nats"].mean
        assert abs(found["log_z_nats"].mean - target.log_z) < 4 * found["log_z_nats"].stderr + 0.01
    assert target.least_kl > 0.2
    assert kl["diagonal"] == pytest.approx(target.least_kl, abs=0.02)
    assert kl["full-gaussian"] == pytest.approx(0, abs=0.01)


def test_forward_and_reverse_kl_of_gaussians_are_those_of_the_formula() -> None:
    target = Correlated(torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64)), mean=0.0)
    model = TargetModel(target, Posterior(Same(4), Diagonal(2), None))  # N(0, I)
    found = figures(evaluate(model, noise_of(target)), target)
    for field, expected in (
        ("kl_nats", math.log(2) + 1 / 8 - 1 / 2),
        ("forward_kl_nats", -math.log(2) + 4 / 2 - 1 / 2),
    ):
        assert abs(found[field].mean - expected) < 4 * found[field].stderr
    assert (found["worst_sd_coordinate"], found["worst_sd_ratio"]) == (0, pytest.approx(0.5, abs=0.01))
    assert found["exact_sd_ratio"] == pytest.approx(1, abs=0.01)


def test_annealing_ends_at_the_target() -> None:
    target = correlated(1)
    model = fitted(target, Diagonal(1), annealing=300)
    assert float(model.taken) > 300
    assert figures(evaluate(model, noise_of(target)), target)["kl_nats"].mean < 0.01
    model.taken.fill_(2)  # of 300: all but the third of the density is that of noise
    torch.manual_seed(3)
    loss = model.backpropagate(torch.zeros(1000, 1))
    torch.manual_seed(3)
    _, log_p, log_q = model.terms(torch.randn(1000, 1))
    torch.testing.assert_close(loss, (log_q - 0.01 * log_p).mean().detach())


def test_a_missed_mode_is_doubted_by_the_forward_divergence_alone() -> None:
    log_weights = np.full(1000, -math.log(2))  # one of two equal modes, exactly
    nothing = np.zeros(2)
    exact = Exact(np.where(np.arange(1000) % 2, 50.0, -math.log(2)), nothing)
    missed = doubts_of(TargetEvaluation(log_weights, nothing, nothing, exact), 0.0)
    assert any("something of the target is missed" in doubt for doubt in missed)
    assert any("50.0% of the target's mass" in doubt for doubt in missed)
    assert doubts_of(TargetEvaluation(log_weights, nothing, nothing, None), None) == ()
    one = np.concatenate([[8.0], np.zeros(999)])
    assert "hangs on a few" in doubts_of(TargetEvaluation(one, nothing, nothing, None), None)[0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("maf", {"batch_norm": True}, "takes statistics of training rows"),
        ("made-mog", {}, "no gradient leads through the draws of made-mog"),
        ("gaussian", {}, "no parameters to descend on"),
        ("kde", {}, "no gradient leads through the draws of kde"),
    ],
)
def test_flows_without_gradients_through_their_draws_are_refused(
    name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        with_gradients(name, 3, flows.load(name).Options.model_validate(settings))


def test_orders_of_nothing_that_is_there_are_refused() -> None:
    for flow, target, message in (("iaf", "energy-5", "unknown target"), ("iav", "funnel", "unknown flow 'iav'")):
        with pytest.raises(UsageError, match=message):
            TargetOrder(flow=flow, data=target).config()
    with pytest.raises(UsageError, match="has no setting"):
        TargetOrder(flow="diagonal", data="funnel", settings={"hidden": 3}).config()


def test_validation_and_test_noise_is_the_same_for_all() -> None:
    one, other = noise_rows("a", 1, 2), noise_rows("b", 1, 2)
    assert np.array_equal(one.test, other.test)
    assert one.fingerprint != other.fingerprint
    assert abs(one.test.mean()) < 0.01
    assert one.test.std() == pytest.approx(1, abs=0.01)


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
    assert "flowbench fit-target iaf --target energy-2 --set hidden=16 --set transforms=2" in told
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
