"""The reverse divergence: the loss and its gradient, and what is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flow_cases import shaken
from target_cases import Correlated, correlated, fitted, noise_of

from flowbench import flows
from flowbench.errors import UsageError
from flowbench.variational.approximation import with_gradients
from flowbench.variational.gaussians import Diagonal, Full, Standard
from flowbench.variational.networks import Same
from flowbench.variational.posterior import Posterior
from flowbench.variational.reverse_kl import ReverseKL, TargetModel
from flowbench.variational.target_evaluation import Exact, TargetEvaluation, doubts_of, evaluate, figures


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


def test_time_for_exact_draws_is_reserved_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowbench.variational.reverse_kl.time_posterior_seconds", lambda *_: 0.0)
    target, timed = correlated(2), []

    def seconds_of(work: Callable[[], object]) -> float:
        timed.append(work)
        return 1.0

    objective = ReverseKL(TargetModel(target, Posterior(Same(4), Diagonal(2), None)))
    assert objective.closing_seconds(noise_of(target), seconds_of) == 10 + 50  # 20,000 and 100,000, of 2,000 a second
    monkeypatch.setattr(target, "draw", lambda n, generator: None)
    assert objective.closing_seconds(noise_of(target), seconds_of) == 10
    assert len(timed) == 3
