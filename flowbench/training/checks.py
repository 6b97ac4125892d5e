"""The checks that say whether a flow is what it claims to be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowbench.data.rows import Rows
from flowbench.flows import Flow
from flowbench.results.record import Check
from flowbench.training import wide
from flowbench.training.clock import repeated
from flowbench.training.wide import WIDE
from flowbench.transforms import MADE, beside

ROUNDTRIP_ROWS, DRAWN_ROWS, JACOBIAN_ROWS = 256, 32, 3

JACOBIAN_COLUMNS, JACOBIAN_VALUES = 1024, 1 << 20
"""Columns beyond which the Jacobian of one row is enough; numbers of copied rows at a time: 8 MiB of float64, and some
fifty times as much of what a flow of five transforms makes of them."""


REHEARSED_COLUMNS, REHEARSED_WIDE = 32, 4
"""Of a Jacobian, to foresee what all of them take, and of a wide one."""


def checks(flow: Flow, rows: Rows, test_lls: NDArray[np.float64]) -> dict[str, Check]:
    """Hold a trained flow against its own claims on test ``rows`` (N, G + D); see each check's ``what``.

    Mathematics is checked in float64 on the CPU, where an error is an error of the formula and not of rounding.
    """
    exact = copy.deepcopy(flow).cpu().double().eval().requires_grad_(False)
    x = rows[: _roundtrip_rows(flow)].cpu().double()
    few = x[: JACOBIAN_ROWS if flow.dim <= JACOBIAN_COLUMNS else 1]
    lost = float(np.count_nonzero(~np.isfinite(test_lls)))
    held = {"not_finite": Check.of(lost, 0.0, "test rows without a finite density")}
    parts = [part for part in exact.parts if part.bijective]
    if not parts:
        return held
    held["roundtrip"] = Check.of(*max(_roundtrip(part, x) for part in parts))
    held |= _log_det(parts, few)
    violations = [_order_violation(made, rows) for part in exact.parts for made, rows in _conditioners(part, few)]
    if violations:
        held["order"] = Check.of(max(violations), 0.0, "max |d parameters of column i / d column >= i|")
    return held


def _roundtrip_rows(flow: Flow) -> int:
    """As many, but of so many columns that they would take gigabytes."""
    return max(1, min(ROUNDTRIP_ROWS, ROUNDTRIP_ROWS * WIDE // flow.dim))


def _log_det(parts: Sequence[Flow], x: Tensor) -> dict[str, Check]:
    """The check of the log-determinant at x (n, G + D), if it can be made: not where leaves of many columns mix all."""
    if x.shape[1] <= WIDE:
        what = "max |log_det - log|det J|| / (1 + |log|det J||) in float64, J by autograd"
        return {"log_det": Check.of(max(_log_det_error(part, x) for part in parts), 1e-6, what)}
    errors = [wide.log_det_error(part, x) for part in parts]
    known = [error for error in errors if error is not None]
    return {"log_det": Check.of(max(known), 1e-6, wide.WHAT)} if len(known) == len(errors) else {}


def _conditioners(flow: Flow, x: Tensor) -> Iterator[tuple[MADE, Tensor]]:
    """The flow's masked networks, and what each reads of rows x (n, G + D)."""
    given, own = flow.apart(x)
    context = None if flow.given is None or given is None else flow.given(given).detach()
    for module in flow.modules():
        if isinstance(module, MADE):
            yield module, beside(context, own) if module.context else own


def checks_seconds(flow: Flow, rows: Rows, seconds_of: Callable[[Callable[[], object]], float]) -> float:
    """The seconds that `checks` will take, by those of a round trip and a few columns of the Jacobian.

    The flow's Jacobian is one, and for each parameter of a column there is one of all conditioners.
    """
    parts = [part for part in flow.parts if part.bijective]
    if not parts:
        return 0.0
    exact = copy.deepcopy(parts[0]).cpu().double().eval().requires_grad_(False)
    x = rows[: _roundtrip_rows(flow)].cpu().double()
    n, looked_at = (JACOBIAN_ROWS if flow.dim <= JACOBIAN_COLUMNS else 1), wide.columns_of(flow.dim)
    some = looked_at[: REHEARSED_COLUMNS if flow.dim <= WIDE else REHEARSED_WIDE]
    copies = x[:n].repeat(len(some), 1).requires_grad_()

    def some_columns() -> None:
        if flow.dim <= WIDE:
            torch.autograd.grad(exact.to_noise(copies)[0].sum(), copies)
        else:
            wide.log_det_error(exact, x[:n], some)

    jacobians = 1 + max((m.univariate.parameters for m in exact.modules() if isinstance(m, MADE)), default=0)
    times = len(looked_at) / len(some)
    each = seconds_of(lambda: _roundtrip(exact, x)) + jacobians * seconds_of(some_columns) * times
    return len(parts) * each


@torch.no_grad()
def _roundtrip(flow: Flow, x: Tensor) -> tuple[float, float, str]:
    """From rows to noise and back; the other way round where a map is flat between its bulks, as a mixture's is.

    What lies there is not told by the noise: it is drawn hardly ever, but a test row may be one.
    """
    if len(noise := flow.noise(DRAWN_ROWS, torch.Generator().manual_seed(0))) > 1:
        given, _ = flow.apart(repeated(x, DRAWN_ROWS))
        u = beside(given, noise[0])
        error = float((flow.to_noise(flow.to_data(u)[0])[0] - u).abs().max())
        return error, 1e-6, "max |forward(inverse(u)) - u| in float64, u drawn"
    u, _ = flow.to_noise(x)
    return float((flow.to_data(u)[0] - x).abs().max()), 1e-6, "max |inverse(forward(x)) - x| in float64"


def _log_det_error(flow: Flow, x: Tensor) -> float:
    # what is given passes: its block is the identity, and the determinant that of the others
    columns = torch.arange(x.shape[1])
    jacobian = torch.cat([rows for _, rows in _jacobian(lambda x: flow.to_noise(x)[0], x, columns)], dim=1)
    expected = log_abs_det(jacobian.numpy())
    found = flow.to_noise(x)[1].detach().numpy()
    return float((np.abs(found - expected) / (1 + np.abs(expected))).max())


def log_abs_det(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """log|det| (n,) of (n, D, D), to rounding where they are lower triangular.

    Last column first, such a matrix is upper triangular, which LU takes as it is; first column first, what pivoting
    moves where columns depend steeply on those before them has cost 1e-4 nats of 784 columns.
    """
    # numpy's, because torch's batched LU has been seen to wait for ever inside MKL when the cores are busy
    return np.asarray(np.linalg.slogdet(matrices[:, ::-1, ::-1]).logabsdet)


def _order_violation(made: MADE, x: Tensor) -> float:
    """The greatest |∂θ_i/∂x_j| with j ≥ i, of columns and not of the context before them."""
    before, looked_at = torch.arange(made.dim), wide.columns_of(made.dim)
    return max(
        float((rows[..., made.context :] * (before >= columns[:, None])).abs().max())
        for parameter in range(made.univariate.parameters)
        for columns, rows in _jacobian(lambda x: made.parameters_of(x)[parameter], x, looked_at)  # noqa: B023  # used at once
    )


def _jacobian(function: Callable[[Tensor], Tensor], x: Tensor, outputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """∂f_i/∂x_j at x (n, D) as (n, k, D), for k of the ``outputs`` i, and these, at a time, by autograd.

    Each backward pass is over as many copies of the rows: the k-th is asked for one column.
    """
    n, dim = x.shape
    for columns in outputs.split(max(1, JACOBIAN_VALUES // x.numel())):
        copies = x.detach().repeat(len(columns), 1).requires_grad_()
        wanted = function(copies).gather(1, columns.repeat_interleave(n)[:, None]).sum()
        (gradient,) = torch.autograd.grad(wanted, copies)
        yield columns, gradient.view(len(columns), n, dim).transpose(0, 1)
