"""What a transform promises, and the two ways to make one of others: Chain and Inverse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from flowbench.data.rows import Rows, through

Pair = tuple[Tensor, Tensor]

Pull = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""From the cotangents of an output (D, N) and of its log_det (N,), that of the input (D, N).

Those of ``tensors()`` are written to the third argument, over what it held: nothing is copied on its way to an
optimizer.
"""

Vjp = Callable[[Tensor], tuple[Tensor, Tensor, Pull]]
"""From an input (D, N) an output (D, N), its log_det (N,) and the vector–Jacobian product there."""

CALIBRATION_ROWS = 10_000
"""Rows moved at a time when statistics of a whole training set are taken: bounds the memory of the activations."""


class Transform(nn.Module):
    """An invertible map of rows between data space (x) and noise space (u), both (N, D).

    ``forward(x)`` returns ``(u, log_det)`` with ``log_det`` (N,) = log|det ∂u/∂x|; ``inverse(u)`` returns
    ``(x, log_det)`` with log|det ∂x/∂u|. Each direction is differentiable in its input and in the parameters.

    ``density_passes`` and ``sampling_passes`` count the runs of a conditioner network over all D columns that the
    textbook algorithm needs for each direction; 0 where there is no conditioner.
    """

    density_passes: int = 0
    sampling_passes: int = 0
    calibrated: bool = False
    """Whether ``calibrate`` does anything here."""

    def forward(self, x: Tensor) -> Pair:
        """Normalise: x (N, D) to (u, log|det ∂u/∂x|)."""
        raise NotImplementedError

    def inverse(self, u: Tensor) -> Pair:
        """Generate: u (N, D) to (x, log|det ∂x/∂u|)."""
        raise NotImplementedError

    def calibrate(self, x: Rows) -> None:
        """Take the statistics that evaluation uses from the whole training set ``x`` (N, D), as it arrives here."""

    def __call__(self, x: Tensor) -> Pair:
        """Forward, with the type that ``nn.Module`` leaves open."""
        return super().__call__(x)


class WrittenTransform(Transform):
    """A transform whose gradients are written out: a chain of such is one step for autograd, not hundreds.

    It gives ``forward_vjp`` and ``inverse_vjp``, in which columns are rows of memory (features first, (D, N)), and its
    parameters, ``tensors``. Rows leave ``forward`` and ``inverse`` as transposed views of columns. Both directions are
    differentiable once; ``torch.func`` gets ``plain_forward``.
    """

    written: bool = True
    """False where what it is made of has no written gradients: then the plain directions do everything."""

    def tensors(self) -> list[Tensor]:
        """The parameters, in the order of their gradients."""
        raise NotImplementedError

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """u (D, N), log_det (N,) and the vector–Jacobian product there, from x (D, N); called without autograd."""
        raise NotImplementedError

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """x (D, N), log_det (N,) and the vector–Jacobian product there, from u (D, N); called without autograd."""
        raise NotImplementedError

    def plain_forward(self, x: Tensor) -> Pair:
        """``forward`` in torch's own differentiable calls."""
        raise NotImplementedError

    def plain_inverse(self, u: Tensor) -> Pair:
        """``inverse`` in torch's own differentiable calls."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        if not self.written or torch._C._are_functorch_transforms_active():
            return self.plain_forward(x)
        return self._run(self.forward_vjp, self.forward_parts, x)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        return self._run(self.inverse_vjp, self.inverse_parts, u) if self.written else self.plain_inverse(u)

    def forward_parts(self) -> list[Vjp]:
        """``forward_vjp`` as what is done one after the other; log-dets add up."""
        return [self.forward_vjp]

    def inverse_parts(self) -> list[Vjp]:
        """As ``forward_parts``."""
        return [self.inverse_vjp]

    def _run(self, vjp: Vjp, parts: Callable[[], list[Vjp]], x: Tensor) -> Pair:
        if torch.is_grad_enabled():
            return _Written.apply(vjp, x, *self.tensors())  # type: ignore[no-untyped-call]
        # without gradients, what a part keeps for its product goes before the next
        x = x.t().contiguous()
        log_det = x.new_zeros(x.shape[1])
        for part in parts():
            x, step = part(x)[:2]
            log_det += step
        return x.t(), log_det


class _Written(Function):
    """Written-out gradients, for autograd."""

    @staticmethod
    def forward(ctx: Any, vjp: Vjp, x: Tensor, *tensors: Tensor) -> Pair:
        # the product keeps what it needs itself; not the outputs, which are views: that would be a cycle. What it may
        # share memory with is saved too, so that autograd tells when that is changed before it is used
        out, log_det, ctx.pull = vjp(x.t().contiguous())
        ctx.save_for_backward(x, *tensors)
        return out.t(), log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.empty_like(tensor) for tensor in ctx.saved_tensors[1:]]
        grad_x = ctx.pull(grad_out.t().contiguous(), grad_log_det.contiguous(), gradients)
        return None, grad_x.t(), *gradients


class Chain(WrittenTransform):
    """Transforms one after the other: forward applies the first one first, log-dets add up."""

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.density_passes = max((t.density_passes for t in self), default=0)
        self.sampling_passes = max((t.sampling_passes for t in self), default=0)
        self.calibrated = any(t.calibrated for t in self)
        self.written = all(isinstance(t, WrittenTransform) and t.written for t in self)
        counts = [len(t.tensors()) if isinstance(t, WrittenTransform) and t.written else 0 for t in self]
        self._places = [slice(a, b) for a, b in pairwise(accumulate(counts, initial=0))]

    def __iter__(self) -> Iterator[Transform]:
        return cast("Iterator[Transform]", iter(self.transforms))

    def __len__(self) -> int:
        return len(self.transforms)

    def _members(self) -> list[tuple[WrittenTransform, slice]]:
        """Each transform, and where its own are among all ``tensors``."""
        return list(zip(cast("Iterable[WrittenTransform]", self), self._places, strict=True))

    def tensors(self) -> list[Tensor]:
        """Those of all its transforms."""
        return [tensor for transform, _ in self._members() for tensor in transform.tensors()]

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """One transform after the other, and their products the other way round."""
        return _compose([(transform.forward_vjp, place) for transform, place in self._members()], x)

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """As ``forward_vjp``."""
        return _compose([(transform.inverse_vjp, place) for transform, place in reversed(self._members())], u)

    def forward_parts(self) -> list[Vjp]:
        """Those of all its transforms, first transform first."""
        return [part for transform, _ in self._members() for part in transform.forward_parts()]

    def inverse_parts(self) -> list[Vjp]:
        """Those of all its transforms, last transform first."""
        return [part for transform, _ in reversed(self._members()) for part in transform.inverse_parts()]

    def plain_forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det), first transform first."""
        log_det = x.new_zeros(len(x))
        for transform in self:
            x, step = transform(x)
            log_det = log_det + step
        return x, log_det

    def plain_inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det), last transform first."""
        log_det = u.new_zeros(len(u))
        for transform in reversed(list(self)):
            u, step = transform.inverse(u)
            log_det = log_det + step
        return u, log_det

    @torch.no_grad()
    def calibrate(self, x: Rows) -> None:
        """Calibrate each transform on the training set as the calibrated ones before it leave it."""
        waiting = sum(t.calibrated for t in self)
        for transform in self if waiting else ():
            transform.calibrate(x)
            waiting -= transform.calibrated
            if not waiting:
                return
            x = through(x, transform, CALIBRATION_ROWS)


def _compose(ways: list[tuple[Vjp, slice]], x: Tensor) -> tuple[Tensor, Tensor, Pull]:
    """Run directions one after the other; a slice says where among all gradients those of each go."""
    log_det = x.new_zeros(x.shape[1])
    pulls = []
    for vjp, place in ways:
        x, step, pull = vjp(x)
        log_det += step
        pulls.append((pull, place))

    def pull_all(grad_x: Tensor, grad_log_det: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        for pull, place in reversed(pulls):
            grad_x = pull(grad_x, grad_log_det, gradients[place])
        return grad_x

    return x, log_det, pull_all


class Inverse(WrittenTransform):
    """A transform with its directions exchanged. IAF is this around MAF's transform (Kingma et al. 2016, §3)."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if transform.calibrated:
            raise ValueError("statistics are those of data on its way to noise: invert what lies between")
        self.transform = transform
        self.written = isinstance(transform, WrittenTransform) and transform.written
        self.density_passes = transform.sampling_passes
        self.sampling_passes = transform.density_passes

    def _inner(self) -> WrittenTransform:
        return cast("WrittenTransform", self.transform)

    def tensors(self) -> list[Tensor]:
        """The wrapped transform's."""
        return self._inner().tensors()

    def forward_vjp(self, x: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """The wrapped transform's inverse."""
        return self._inner().inverse_vjp(x)

    def inverse_vjp(self, u: Tensor) -> tuple[Tensor, Tensor, Pull]:
        """The wrapped transform's forward."""
        return self._inner().forward_vjp(u)

    def forward_parts(self) -> list[Vjp]:
        """The wrapped transform's of its inverse."""
        return self._inner().inverse_parts()

    def inverse_parts(self) -> list[Vjp]:
        """The wrapped transform's of its forward."""
        return self._inner().forward_parts()

    def plain_forward(self, x: Tensor) -> Pair:
        """The wrapped transform's inverse."""
        return self.transform.inverse(x)

    def plain_inverse(self, u: Tensor) -> Pair:
        """The wrapped transform's forward."""
        return self.transform(u)
