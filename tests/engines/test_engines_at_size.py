"""Substitution at the sizes that are timed, with trained weights and for rows far in the tails."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.flows import Flow, maf
from flowbench.training.step import Descent
from flowbench.transforms import Chain, MaskedAutoregressive

SIZES = pytest.mark.parametrize(
    ("dim", "hidden", "steps"), [(6, (100, 100), 100), (43, (512, 512), 30), (784, (1024,), 6)], ids=["6", "43", "784"]
)


def trained(dim: int, hidden: tuple[int, ...], steps: int) -> Flow:
    """A MAF that some steps at a high rate have moved from where it began, on rows with structure."""
    torch.manual_seed(dim)
    flow = maf.build(dim, maf.Options(hidden=hidden, transforms=2))
    descent = Descent(flow, TrainingOptions.model_validate({}))
    mix = torch.randn(dim, dim) / dim**0.5
    losses = [float(descent.step((torch.randn(100, dim) @ mix).sinh(), 2e-3)) for _ in range(steps)]
    assert losses[-1] < losses[0]
    return flow.eval()


def autoregressive(flow: Flow) -> list[MaskedAutoregressive]:
    return [t for t in cast("Chain", flow.transform) if isinstance(t, MaskedAutoregressive)]


def tails(rows: int, dim: int) -> Tensor:
    """Normal rows, and rows up to a hundred times as far out."""
    u = torch.randn(rows, dim)
    u[rows // 2 :] *= torch.logspace(0, 2, rows - rows // 2)[:, None]
    return u


@SIZES
def test_it_agrees_with_the_textbook_in_double_and_in_single(dim: int, hidden: tuple[int, ...], steps: int) -> None:
    for transform in autoregressive(trained(dim, hidden, steps)):
        u = tails(8, dim).double()
        fast = Flow(dim, transform)
        single = [t.double() for t in fast.to_data(u.float())]
        fast.double()
        with torch.no_grad():
            found, expected = fast.to_data(u), transform.inverse_by_passes(u)
        for f, e, s in zip(found, expected, single, strict=True):
            size = e.abs().amax(-1, keepdim=True) if e.ndim == 2 else e.abs() + dim**0.5
            assert ((f - e).abs() / size).max() < 1e-10
            assert ((s - e).abs() / size).max() < 1e-4


@SIZES
@pytest.mark.usefixtures("float64")
def test_its_gradients_are_those_through_the_textbook(dim: int, hidden: tuple[int, ...], steps: int) -> None:
    torch.set_default_dtype(torch.float32)
    transform = autoregressive(trained(dim, hidden, steps))[0].double()
    torch.set_default_dtype(torch.float64)
    u = tails(2, dim).double().clamp(-10, 10).requires_grad_()
    wanted = [u, transform.conditioner.flat]
    fast = Flow(dim, transform)

    def gradients(out: Tensor, log_det: Tensor) -> list[Tensor]:
        loss = (out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum() + (
            log_det * torch.tensor([1.0, -2.0])
        ).sum()
        return list(torch.autograd.grad(loss, wanted))

    if dim == 784:  # a graph of 784 passes is gigabytes: the inverse function theorem gives the same, at the solution
        found, expected = gradients(*fast.to_data(u)), implicit(transform, u)
    else:
        found, expected = gradients(*fast.to_data(u)), gradients(*transform.inverse_by_passes(u))
    for f, e in zip(found, expected, strict=True):
        assert (f - e).abs().max() < 1e-8 * (1 + e.abs().max())


def implicit(transform: MaskedAutoregressive, u: Tensor) -> list[Tensor]:
    """The gradients from plain autograd's of forward: with u = f(x; w), x̄ solves Jᵀȳ = x̄ and w̄ = −(∂f/∂w)ᵀȳ."""
    with torch.no_grad():
        x = transform.inverse_by_passes(u)[0]
    x.requires_grad_()
    flat = transform.conditioner.flat
    weigh_x, weigh_l = torch.linspace(-1, 2, x.numel()).view_as(x), torch.tensor([1.0, -2.0])
    image, log_det = transform(x)
    # log|∂x/∂u| = −log_det(x): its part of the loss in x and w
    direct_x, direct_w = torch.autograd.grad(-(log_det * weigh_l).sum(), [x, flat], retain_graph=True)
    rows = []
    for n, row in enumerate(x.detach()):
        copies = row.repeat(len(row), 1).requires_grad_()
        (jacobian,) = torch.autograd.grad(transform(copies)[0], copies, torch.eye(len(row)))
        wanted = (weigh_x + direct_x)[n, :, None]
        rows.append(torch.linalg.solve_triangular(jacobian.T, wanted, upper=True)[:, 0])
    along = torch.stack(rows)
    (through,) = torch.autograd.grad(image, flat, -along)
    return [along, direct_w + through]
