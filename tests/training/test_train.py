"""Training: what it reaches, what it leaves behind, how it stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowbench import flows
from flowbench.config import TrainingOptions
from flowbench.errors import DataError, DivergedError
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.training.loop import train
from flowbench.training.optimizers import AdamInnerEpsilon
from flowbench.training.schedule import Schedule
from flowbench.training.state import Epoch

QUICK: dict[str, Any] = {"batch_size": 100, "max_epochs": 3, "warmup_steps": 5}


def rows(n: int, seed: int = 0) -> Tensor:
    """Three correlated columns away from zero."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.5, 0.5, 2.0]])
    return torch.randn(n, 3, generator=generator) @ mix.T + torch.tensor([1.0, -2.0, 0.5])


def built(name: str = "maf", **options: object) -> Flow:
    torch.manual_seed(0)
    module = flows.load(name)
    small = {"hidden": (16,), "transforms": 2} | options
    return module.build(3, module.Options(**{k: v for k, v in small.items() if k in module.Options.model_fields}))


def fit(flow: Flow, n: int = 1000, seed: int = 0, **options: Any) -> list[Epoch]:
    return train(flow, rows(n), rows(500, 1), TrainingOptions(**(QUICK | options)), seed)


@pytest.mark.parametrize("name", flows.names())
def test_every_flow_learns_a_gaussian(name: str) -> None:
    couplings = name in ("realnvp", "nsf-c")  # two of them move each column once: too few
    flow = built(name, transforms=4 if couplings else 2)
    fit(flow, 4000, max_epochs=20, learning_rate=5e-3)
    covariance = torch.cov(rows(100_000).T)
    truth = torch.distributions.MultivariateNormal(torch.tensor([1.0, -2.0, 0.5]), covariance)
    test = rows(5000, 2)
    lost = truth.log_prob(test).double().numpy() - log_likelihoods(flow, test)
    # kernels are as wide as rows are sparse, and bins of levels are wide where a Gaussian lies
    assert lost.mean() < {"kde": 0.15, "resmade-levels": 0.25}.get(name, 0.05)
    assert lost.mean() > -2 * lost.std() / len(lost) ** 0.5


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    first, again, other = built(), built(), built()
    records = [fit(first), fit(again), fit(other, seed=1)]
    assert [r.validation_ll_nats for r in records[0]] == [r.validation_ll_nats for r in records[1]]
    assert [r.validation_ll_nats for r in records[0]] != [r.validation_ll_nats for r in records[2]]
    assert torch.equal(first(rows(10)), again(rows(10)))


def test_it_leaves_the_weights_of_the_best_epoch() -> None:
    flow = built()
    # far too high a rate without a schedule: later epochs are worse than the best
    epochs = fit(flow, max_epochs=15, learning_rate=0.3, schedule="constant", warmup_steps=0)
    best = max(epochs, key=lambda epoch: epoch.validation_ll_nats)
    assert best is not epochs[-1]
    assert log_likelihoods(flow, rows(500, 1)).mean() == pytest.approx(best.validation_ll_nats, abs=1e-9)
    assert not flow.training


def test_an_interrupt_leaves_the_best_weights_too() -> None:
    flow = built()
    seen: list[Epoch] = []

    def interrupt(step: int, steps: int) -> None:
        if len(seen) == 2 and step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(flow, rows(1000), rows(500, 1), TrainingOptions(**QUICK), 0, interrupt, seen.append)
    assert len(seen) == 2
    best = max(epoch.validation_ll_nats for epoch in seen)
    assert log_likelihoods(flow, rows(500, 1)).mean() == pytest.approx(best, abs=1e-9)


def test_a_plateau_goes_on_from_the_best_at_a_third_of_the_rate() -> None:
    flow, rate = built(), 0.1
    best: dict[str, Tensor] = {}
    fallen: list[bool] = [False]
    jumps: list[tuple[float, float]] = []

    def watch(step: int, steps: int) -> None:
        if step == 1 and fallen[-1]:
            gone = max((p - best[name]).abs().max().item() for name, p in flow.named_parameters())
            jumps.append((gone, rate / 3 ** sum(fallen)))

    options = TrainingOptions(
        **QUICK | {"max_epochs": 12, "warmup_steps": 0}, schedule="constant", learning_rate=rate, plateau=1
    )

    def remember(epoch: Epoch) -> None:
        fallen.append(not epoch.best)
        if epoch.best:
            best.update({name: p.detach().clone() for name, p in flow.named_parameters()})

    train(flow, rows(1000), rows(500, 1), options, 0, watch, remember)
    assert len(jumps) >= 2
    for gone, allowed in jumps:
        assert 0.1 * allowed < gone < 3.2 * allowed  # one step of Adam moves no weight further


def test_patience_counts_epochs_without_a_better_validation() -> None:
    epochs = fit(built(), max_epochs=None, max_steps=None, schedule="constant", learning_rate=0.05, patience=3)
    best = max(epochs, key=lambda epoch: epoch.validation_ll_nats).number
    assert len(epochs) == best + 3


def test_however_short_the_time_a_step_is_taken() -> None:
    (epoch,) = fit(built(), max_seconds=1e-9)
    assert epoch.rows == 100
    assert np.isfinite(epoch.train_ll_nats)


def test_every_row_is_seen_once_an_epoch() -> None:
    (epoch,) = fit(built(), 83, batch_size=50, max_epochs=1)
    assert epoch.rows == 83
    plan = Schedule(TrainingOptions(batch_size=50), 83)
    seen = torch.cat([torch.arange(83)[batch] for batch in plan.batches])
    assert torch.equal(seen, torch.arange(83))
    assert {batch.stop - batch.start for batch in plan.batches} == {41, 42}


def test_time_ends_training_within_an_epoch() -> None:
    epochs = fit(built(), 100_000, batch_size=10, max_epochs=None, max_steps=None, max_seconds=0.3)
    assert len(epochs) == 1
    assert epochs[0].rows < 100_000
    assert epochs[0].train_seconds < 3


def test_no_epoch_is_no_training() -> None:
    assert fit(built(), max_epochs=0) == []


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    (epoch,) = fit(built(batch_norm=False), 7, batch_size=500, max_epochs=1)
    assert epoch.rows == 7


@pytest.mark.parametrize(("n", "batch"), [(100, 50), (4000, 200), (50_000, 500)])
def test_a_batch_is_a_20th_of_the_rows_within_bounds_and_steps_give_the_length(n: int, batch: int) -> None:
    epochs = fit(built(), n, batch_size=None, max_epochs=None, max_steps=3)
    assert len(epochs) == -(-3 // (n // batch))
    assert epochs[0].rows == n
    assert epochs[0].of == len(epochs)


@pytest.mark.parametrize("poisoned", [0, 1])
@pytest.mark.parametrize("optimizer", ["adam", "adam-inner-epsilon"])
def test_a_divergence_says_where(poisoned: int, optimizer: str) -> None:
    flow = built(batch_norm=False)
    chain = flow.transform

    def poison(step: int, steps: int) -> None:
        if step == 3:
            with torch.no_grad():
                next(chain.transforms[2 * poisoned].parameters()).fill_(torch.inf)  # type: ignore[index,union-attr]

    with pytest.raises(DivergedError) as error:
        train(flow, rows(1000), rows(500, 1), TrainingOptions(**QUICK, optimizer=optimizer), 0, poison)
    assert "epoch 1, step 4: the loss is nan; the last finite loss was" in str(error.value)
    assert f"first not finite: transform {2 * poisoned} (MaskedAutoregressive)" in str(error.value)
    assert all(p.isfinite().all() for p in flow.parameters())


def test_too_large_a_step_diverges() -> None:
    flow = built(log_scale_bound=None, batch_norm=False)
    with pytest.raises(DivergedError, match=r"epoch \d+, step \d+: "):
        fit(flow, learning_rate=1e6, clip_norm=None, warmup_steps=0, max_epochs=20)


def test_a_validation_row_that_overflows_is_no_divergence_but_never_best() -> None:
    far = rows(500, 1)
    far[0] = 1e30
    with pytest.raises(DivergedError, match="not finite in any of 3 epochs"):
        list(train(built(), rows(1000), far, TrainingOptions(**QUICK), 0))


@pytest.mark.parametrize("seed", range(8))
def test_a_singular_covariance_is_the_datas_fault(seed: int) -> None:
    x = rows(300, seed)
    summed = torch.stack([x[:, 0], x[:, 1], x[:, 0] + x[:, 1]], dim=1)
    for twin in (x[:, [0, 1, 0]], summed.double().float()):
        with pytest.raises(DataError, match="singular"):
            list(train(built("gaussian"), twin, twin, TrainingOptions(**QUICK), 0))


def test_batch_norm_is_calibrated_on_the_whole_training_set() -> None:
    flow = built()
    fit(flow, max_epochs=1)
    flow.eval()
    x = rows(1000)
    first, norm = flow.transform.transforms[0], flow.transform.transforms[1]  # type: ignore[index,union-attr]
    u = first(x)[0].double()
    torch.testing.assert_close(norm.mean.double(), u.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.variance.double(), u.var(0, correction=0), rtol=1e-4, atol=1e-6)


def test_adam_with_inner_epsilon_is_the_papers_formula() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = AdamInnerEpsilon(weight, torch.tensor(0.1, dtype=torch.float64), eps=1e-4, weight_decay=0.01)
    theta, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t, gradient in enumerate(([1e-3, 0.5], [-2e-3, 0.1], [0.0, 3.0]), 1):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        g = np.array(gradient) + 0.01 * theta
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        later = t + 1  # as in the paper's code
        theta = theta - 0.1 * (m / (1 - 0.9**later)) / np.sqrt(v / (1 - 0.999**later) + 1e-4)
        np.testing.assert_allclose(weight.detach().numpy(), theta, rtol=1e-12)


def test_a_cosine_needs_an_end() -> None:
    with pytest.raises(ValueError, match="max_epochs, max_steps or max_seconds"):
        TrainingOptions(schedule="cosine", max_steps=None)
    TrainingOptions(schedule="cosine", max_steps=None, max_seconds=1.0)
