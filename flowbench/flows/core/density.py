"""A density of rows in their own units: preprocessing, and the flow that learnt what it leads to."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from flowbench.data import preprocessing as steps
from flowbench.data.discrete import Category, Discrete
from flowbench.data.given import GivenColumn, standardised
from flowbench.data.rows import Rows
from flowbench.errors import DataError, DivergedError
from flowbench.flows import Flow
from flowbench.flows.core.absent import integrated
from flowbench.flows.core.batches import ROWS, rows_at_once
from flowbench.flows.core.conditionals import has_one_order, log_conditionals
from flowbench.transforms import Chain, Transform, beside
from flowbench.transforms import preprocessing as transforms

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Density:
    """p(x) = p_flow(f(x))·|det ∂f/∂x|, with f the preprocessing and x (N, D) in raw units.

    D is the number of raw columns, that of the flow but where `SubtractMean` drops a pixel. Without preprocessing it is
    the density in the flow's own space. Of a conditional density rows are (N, G + D): what is ``given`` stands first,
    numbers in their own units and codes of classes. With a ``discrete`` part, the D columns are those of classes, as
    codes, and then those of numbers, atoms and missing values (NaN) among them; its density is one with respect to the
    counting measure of all that is discrete.

    Raises:
        DataError: the preprocessing does not lead to as many columns as the flow has, or it is given others, or has
            others that are discrete.
    """

    flow: Flow
    preprocessing: steps.Preprocessing = ()
    given: tuple[GivenColumn, ...] = ()
    discrete: Discrete | None = None

    def __post_init__(self) -> None:
        if tuple(column.classes for column in self.given) != (self.flow.given.classes if self.flow.given else ()):
            raise DataError("what it is given is not what its flow is")
        codes = len(self.discrete.classes) if self.discrete else 0
        if self.flow.columns != len(self.given) + codes + self.flow.dim:
            raise DataError("what of its rows is discrete is not what its flow has")
        numbers = self.dim - len(self.categories)
        if not all(_fits(step, numbers) for step in self.preprocessing):
            raise DataError(f"its preprocessing is not that of {numbers} columns")
        discrete = self.discrete or Discrete()
        outside = any(atoms.column >= numbers for atoms in discrete.atoms)
        if outside or {len(discrete.steps), len(discrete.origins)} not in ({0}, {numbers}):
            raise DataError("it has atoms or steps of columns that are not there")

    @property
    def categories(self) -> tuple[Category, ...]:
        """The modelled columns of classes, which stand before those of numbers."""
        return self.discrete.categories if self.discrete else ()

    @property
    def classed(self) -> list[GivenColumn | Category]:
        """The first columns of its raw rows, which may have classes: those given, and categories."""
        return [*self.given, *self.categories]

    @property
    def dim(self) -> int:
        """Number of raw columns."""
        dropped = sum(isinstance(step, steps.SubtractMean) for step in self.preprocessing)
        return len(self.categories) + self.flow.dim + dropped

    @cached_property
    def transform(self) -> Transform:
        """f, in float64 on the CPU."""
        return Chain([_transform(step) for step in self.preprocessing])

    def log_prob(self, rows: Float64) -> Float64:
        """Log-density (N,) in nats of each of ``rows`` (N, G + D); of a discrete value, in the middle of its step.

        Rows so far out that the flow's single precision overflows are taken in double; NaN or −∞ is left only where
        that overflows too.
        """
        given, own = np.split(rows, [len(self.given)], axis=1)
        with torch.no_grad():  # before it is rounded to single: a small spread may lie far from zero
            u, log_det = self._in_flow_space(own)
        lls = self._log_likelihoods(beside(self._standardised(given), u))
        return np.asarray(lls + log_det.numpy())

    def _log_likelihoods(self, u: Tensor) -> Float64:
        """Log-densities (N,) of the flow's rows u (N, G + C + D), those with absent numbers as integrals over them."""
        if self.discrete is None or not self.discrete.atoms:
            return self._each_log_likelihood(u)
        codes = u[:, len(self.given) : -self.flow.dim].numpy()
        absent = torch.from_numpy(self.discrete.absent(codes, self.flow.dim))
        return integrated(self._each_log_likelihood, u, absent)

    def _each_log_likelihood(self, u: Tensor) -> Float64:
        """Log-densities (N,) of the flow's rows as they are."""
        origin = self.flow.origin
        lls = log_likelihoods(self.flow, u.to(origin.device, origin.dtype))
        far = ~np.isfinite(lls)
        if far.any():
            lls[far] = log_likelihoods(self._precise, u[torch.from_numpy(far)])
        return lls

    @property
    def has_one_order(self) -> bool:
        """Whether it is known as the product of its columns' conditionals, in one order of the raw columns."""
        columnwise = all(step.reach == "own" for step, _ in self.transform.leaves())
        return self.discrete is None and columnwise and has_one_order(self.flow)

    @torch.no_grad()
    def log_conditionals(self, rows: Float64) -> Float64:
        """log p(x_i | the columns before x_i) (N, D) in nats of ``rows`` (N, G + D), of one that has one order.

        They add up to ``log_prob``, and are taken in double precision.
        """
        own, first = torch.tensor(rows, dtype=torch.float64), len(self.given)
        u, terms = own[:, first:], torch.zeros(len(rows), self.dim, dtype=torch.float64)
        for step, _ in self.transform.leaves():
            u, slopes = step.by_column(u)
            terms += slopes
        return np.asarray(terms + log_conditionals(self._precise, beside(self._standardised(rows[:, :first]), u)))

    @property
    def may_lack(self) -> NDArray[np.bool_]:
        """Which of the columns of raw rows (G + D,) may be missing."""
        found, first = np.zeros(len(self.given) + self.dim, np.bool_), len(self.classed)
        for atoms in self.discrete.atoms if self.discrete else ():
            found[first + atoms.column] = None in atoms.values
        return found

    def unfit(self, rows: Float64) -> NDArray[np.bool_]:
        """Which values of raw rows (N, G + D) have no density: missing, infinite, outside of bounds, without a log."""
        bad, first = ~np.isfinite(rows), len(self.classed)
        numbers, widths = rows[:, first:], np.zeros(1)
        for step in self._columnwise:
            if isinstance(step, transforms.Dequantise):
                widths = step.steps.numpy()
            if isinstance(step, transforms.Bounded):
                bad[:, first:] |= (numbers < step.lower.numpy()) | (numbers > step.upper.numpy() - widths)
            if isinstance(step, transforms.Compress):
                bad[:, first:] |= step.log.numpy() & ((numbers < 0) | (numbers + widths <= 0))
        for atoms in self.discrete.atoms if self.discrete else ():
            bad[:, first + atoms.column] &= atoms.codes(numbers[:, atoms.column]) == 0
        return bad

    @torch.no_grad()
    def raw(self, rows: Tensor) -> Float64:
        """Raw rows (N, D), without what is given, of the flow's own rows (N, G + D)."""
        return self._in_raw_units(self.flow.apart(rows)[1].cpu().double())[0].numpy()

    @torch.no_grad()
    def in_own_units(self, rows: Rows, lls: Float64) -> Float64:
        """Log-densities (N,) in raw units, from ``lls`` (N,), the flow's of ``rows`` (N, G + D) in its own space."""
        own = (self.flow.apart(part)[1].cpu().double() for part in rows.split(ROWS))
        return np.asarray(lls - torch.cat([self._in_raw_units(part)[1] for part in own]).numpy())

    def _in_flow_space(self, own: Float64) -> tuple[Tensor, Tensor]:
        """Raw rows (N, D) to (u, log_det) in the flow's: codes first, and where no number is, a 0 without a term."""
        if self.discrete is None:
            return self.transform(torch.tensor(own, dtype=torch.float64))
        classes, numbers = np.split(own, [len(self.categories)], axis=1)
        codes = np.concatenate([classes, self.discrete.codes(numbers)], axis=1)
        absent, counted = (
            torch.from_numpy(which(codes, numbers.shape[1])) for which in (self.discrete.absent, self.discrete.counted)
        )
        u, log_det = torch.tensor(numbers, dtype=torch.float64), torch.zeros(len(own), dtype=torch.float64)
        for step in self._columnwise:
            u, terms = step.by_column(u)
            log_det = log_det + terms.masked_fill(counted, 0).sum(1)
        return torch.cat([torch.from_numpy(codes), u.masked_fill(absent, 0)], 1), log_det

    def _in_raw_units(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """The flow's rows (N, C + D), without what is given, to (raw rows, log_det)."""
        if self.discrete is None:
            return self.transform.inverse(own)
        codes, numbers = own.split([len(self.discrete.classes), self.flow.dim], 1)
        counted = torch.from_numpy(self.discrete.counted(codes.numpy(), self.flow.dim))
        log_det = torch.zeros(len(own), dtype=torch.float64)
        for step in reversed(self._columnwise):
            numbers, terms = step.inverse_terms(numbers)
            log_det = log_det + terms.masked_fill(counted, 0).sum(1)
        restored = torch.from_numpy(self.discrete.restored(codes.numpy(), numbers.numpy()))
        return torch.cat([codes[:, : len(self.categories)], restored], 1), log_det

    @cached_property
    def _columnwise(self) -> list[transforms.Columnwise]:
        """The preprocessing's steps, each column by itself: of a table's there are no others."""
        return [step for step, _ in self.transform.leaves() if isinstance(step, transforms.Columnwise)]

    def bits_per_pixel(self, rows: Rows, lls: Float64) -> Float64 | None:
        """Minus the log-density of the pixel values over D log 2, (N,); None where there are no whole images.

        ``rows`` (N, G + D) and ``lls`` (N,) are as for ``in_own_units``. With pixels on [0, 1] it is the MAF paper's
        log2(levels) − log p/(D·log 2) (appendix E.2).
        """
        if not any(isinstance(step, steps.Logit) for step in self.preprocessing):
            return None
        return np.asarray(-self.in_own_units(rows, lls) / (self.dim * math.log(2)))

    def samples(self, n: int, generator: Generator, given: Float64 | None = None) -> Iterator[Float64]:
        """N draws in raw units, some (k, G + D) at a time; ``generator`` is of the flow's device.

        ``given`` (n, G) is what a conditional density is given, a row for each draw.

        Columns that noise was added to are rounded down to their steps, where those are known. Noise of the base is
        drawn for as many rows whatever ``n`` is: fewer draws are the first of more, but for rounding.

        Raises:
            DivergedError: a draw is not finite. None is left out or drawn again: that would be another density.
        """
        for done in range(0, n, ROWS):
            noise = self.flow.noise(ROWS, generator)[:, : n - done]
            some = None if given is None else given[done : done + ROWS]
            seen = None if some is None else self._standardised(some)
            with torch.no_grad():
                drawn = self._drawn(noise, None if seen is None else seen.to(noise))
            rows = self.raw(drawn)
            lost = np.flatnonzero(~(self.whole(rows) & self.flow.apart(drawn)[1].isfinite().all(1).cpu().numpy()))
            if len(lost):
                raise DivergedError(
                    f"sample {done + int(lost[0]) + 1} of {n} is not finite: the flow overflows there",
                    hint="training with a log_scale_bound, or for longer, keeps a flow finite; or take another seed",
                )
            yield np.ascontiguousarray(rows if some is None else np.concatenate([some, rows], axis=1))

    def whole(self, rows: Float64) -> NDArray[np.bool_]:
        """Which of raw rows (n, D) are finite, but for what may be missing."""
        lacking = np.isnan(rows) & self.may_lack[len(self.given) :]
        return np.asarray((np.isfinite(rows) | lacking).all(axis=1))

    def _drawn(self, noise: Tensor, given: Tensor | None) -> Tensor:
        """The rows that are made of noise (draws, N, D), as many at a time as memory holds."""
        n = rows_at_once(self.flow)
        parts = [slice(start, start + n) for start in range(0, noise.shape[1], n)]
        return torch.cat([self.flow.draws(noise[:, part], None if given is None else given[part]) for part in parts])

    def _standardised(self, given: Float64) -> Tensor | None:
        """What the flow sees of given values (N, G); None where nothing is given."""
        return torch.from_numpy(standardised(self.given, given)) if self.given else None

    @cached_property
    def _precise(self) -> Flow:
        return copy.deepcopy(self.flow).cpu().double()


@torch.no_grad()
def log_likelihoods(flow: Flow, rows: Rows) -> Float64:
    """Log-density (N,) in nats of each of ``rows`` (N, G + D), in order, as float64: every row once, none left out."""
    at_once = rows_at_once(flow, min(ROWS, max(1, len(rows))))
    return torch.cat([flow(batch).cpu().double() for batch in rows.split(at_once)]).numpy()


@torch.no_grad()
def class_averaged(flow: Flow, rows: Rows) -> Float64 | None:
    """log (1/K) Σ_y p(x | y) (N,) in nats of ``rows`` (N, G + D), whatever their own class y of the K.

    It is p(x) where all classes are alike (MAF paper, section 4.3). None where not exactly one column of classes is
    given.
    """
    place = None if flow.given is None else flow.given.only_classes
    if flow.given is None or place is None:
        return None
    found = []
    for batch in rows.split(rows_at_once(flow)):
        each = []
        for code in range(flow.given.classes[place]):
            other = batch.clone()
            other[:, place] = code
            each.append(flow(other).cpu().double())
        found.append(torch.stack(each).logsumexp(0) - math.log(len(each)))
    return torch.cat(found).numpy()


def _fits(step: steps.Step, dim: int) -> bool:
    match step:
        case steps.Standardise():
            return len(step.location) == len(step.scale) == dim
        case steps.Dequantise():
            return {len(step.steps), len(step.origin or (0.0,))} <= {1, dim}
        case steps.Bounded():
            return len(step.lower) == len(step.upper) == len(step.margin) == dim
        case steps.Compress():
            return len(step.by) == len(step.location) == len(step.scale) == dim
    return True


def _transform(step: steps.Step) -> Transform:
    match step:
        case steps.Dequantise():
            return transforms.Dequantise(_tensor(step.steps), None if step.origin is None else _tensor(step.origin))
        case steps.Bounded():
            lower = [-math.inf if bound is None else bound for bound in step.lower]
            upper = [math.inf if bound is None else bound for bound in step.upper]
            return transforms.Bounded(_tensor(lower), _tensor(upper), _tensor(step.margin))
        case steps.Compress():
            log, asinh = (torch.tensor([by == name for by in step.by]) for name in ("log", "asinh"))
            return transforms.Compress(log, asinh, _tensor(step.location), _tensor(step.scale))
        case steps.Standardise():
            return transforms.Standardise(_tensor(step.location), _tensor(step.scale))
        case steps.Logit():
            return transforms.Logit(step.alpha, step.levels)
        case steps.SubtractMean():
            return transforms.SubtractMean(step.levels)


def _tensor(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
