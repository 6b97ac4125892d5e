"""What is done to raw values before a flow sees them, with its log-determinant. In float64, whatever comes in.

Each is the first part of a density: p(x) = p_flow(f(x))·|det ∂f/∂x|, with x in raw units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowbench.transforms.transform import Pair, Transform


class Columnwise(Transform):
    """A map of each column by itself: of a row that lacks some of its numbers, the others' terms are its log_det."""

    reach = "own"

    def inverse_terms(self, u: Tensor) -> Pair:
        """u (N, D) to x and each column's log|∂x/∂u|, (N, D) both."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        u, terms = self.by_column(x)
        return u, terms.sum(1)

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        x, terms = self.inverse_terms(u)
        return x, terms.sum(1)


class Dequantise(Columnwise):
    """Discrete values as the middle of their step: u = x + step/2, log_det = 0.

    In training, noise on [0, step) was added to them; a value's density is taken in the middle of that. The inverse
    takes the noise off: it rounds down to ``origin + k·step``, so that draws are discrete as the data are. Columns with
    a step of 0 are left alone, and all are, by the inverse, where ``origin`` is None.
    """

    def __init__(self, steps: Tensor, origin: Tensor | None) -> None:
        super().__init__()
        self.steps = steps.double()
        self.origin = None if origin is None else origin.double()

    def by_column(self, x: Tensor) -> Pair:
        """Discrete values x (N, D) to (u, 0)."""
        return x.double() + self.steps / 2, torch.zeros_like(x, dtype=torch.float64)

    def inverse_terms(self, u: Tensor) -> Pair:
        """Values u (N, D) to (x, 0), x discrete: a volume is not defined there, and a density keeps u's."""
        u = u.double()
        if self.origin is None:
            return u, torch.zeros_like(u)
        step = torch.where(self.steps > 0, self.steps, 1)
        count = torch.floor((u - self.origin) / step)
        per_unit = torch.round(1 / step)
        # 3·0.1 is not 0.3, but 3/10 is
        multiple = torch.where((per_unit * step - 1).abs() < 1e-12, count / per_unit, count * step)
        return torch.where(self.steps > 0, self.origin + multiple, u), torch.zeros_like(u)


class Bounded(Columnwise):
    """u = log(x − l) − log(h − x) for numbers between l and h; without one of the bounds, without its term.

    ``lower`` and ``upper`` (D,) are infinite where a column has none. What is nearer to a bound than ``margin`` (D,) is
    taken at that distance; the inverse leads to no number outside.
    """

    def __init__(self, lower: Tensor, upper: Tensor, margin: Tensor) -> None:
        super().__init__()
        self.lower, self.upper, self.margin = lower.double(), upper.double(), margin.double()
        self._low, self._high = lower.isfinite(), upper.isfinite()

    def by_column(self, x: Tensor) -> Pair:
        """Numbers x (N, D) between the bounds to u; NaN where a number lies outside."""
        x = x.double()
        outside = (x < self.lower) | (x > self.upper)
        # du/dx is 1/(x − l) + 1/(h − x), which is (h − l)/((x − l)(h − x))
        above = torch.where(self._low, torch.maximum(x - self.lower, self.margin), 1)
        below = torch.where(self._high, torch.maximum(self.upper - x, self.margin), 1)
        width = torch.where(self._low & self._high, self.upper - self.lower, 1)
        bounded = self._low | self._high
        u = torch.where(bounded, above.log() - below.log(), x)
        terms = torch.where(bounded, width.log() - above.log() - below.log(), 0)
        return u.masked_fill(outside, math.nan), terms

    def inverse_terms(self, u: Tensor) -> Pair:
        """All numbers u (N, D) to x between the bounds."""
        u = u.double()
        both = self._low & self._high
        low, high = torch.where(self._low, self.lower, 0), torch.where(self._high, self.upper, 0)
        width = torch.where(both, high - low, 1)
        x = torch.where(both, low + width * torch.sigmoid(u), torch.where(self._low, low + u.exp(), high - (-u).exp()))
        x = torch.where(self._low | self._high, x, u)
        terms = torch.where(both, width.log() + logsigmoid(u) + logsigmoid(-u), torch.where(self._low, u, -u))
        inside = torch.where(self._high, torch.nextafter(self.upper, torch.full_like(self.upper, -math.inf)), math.inf)
        return torch.minimum(torch.maximum(x, self.lower), inside), torch.where(self._low | self._high, terms, 0)


class Compress(Columnwise):
    """u = log x of some columns, log_det = −Σ log x; asinh(z) of others with z = (x − location)/scale.

    The log_det of these is −Σ log scale + ½ log(1 + z²). ``log`` and ``asinh`` (D,) say which columns they are, the
    others are left alone; ``location`` and ``scale`` are (D,). The inverse of a logarithm leads to no number below the
    least normal one: nothing underflows to 0, which has none.
    """

    def __init__(self, log: Tensor, asinh: Tensor, location: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.log, self.asinh = log.bool(), asinh.bool()
        self.location, self.scale = location.double(), scale.double()

    def by_column(self, x: Tensor) -> Pair:
        """Numbers x (N, D) to u; NaN where one has no logarithm."""
        x = x.double()
        positive = torch.where(self.log & (x > 0), x, 1)
        z = torch.where(self.asinh, (x - self.location) / self.scale, 0)
        u = torch.where(self.log, positive.log(), torch.where(self.asinh, z.asinh(), x))
        terms = torch.where(self.asinh, -self.scale.log() - torch.hypot(z, torch.ones_like(z)).log(), -positive.log())
        return u.masked_fill(self.log & ~(x > 0), math.nan), terms

    def inverse_terms(self, u: Tensor) -> Pair:
        """All numbers u (N, D) to x."""
        u = u.double()
        least = torch.finfo(u.dtype).tiny
        x = torch.where(self.log, u.exp().clamp(min=least), torch.where(self.asinh, u.sinh(), u))
        slopes = torch.where(self.asinh, torch.logaddexp(u, -u) - math.log(2) + self.scale.log(), 0)
        return torch.where(self.asinh, self.location + self.scale * x, x), torch.where(self.log, u, slopes)


class Standardise(Columnwise):
    """u = (x − location)/scale, log_det = −Σ log scale, with ``location`` and ``scale`` (D,)."""

    def __init__(self, location: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.location, self.scale = location.double(), scale.double()

    def by_column(self, x: Tensor) -> Pair:
        """Rows x (N, D) in raw units to u."""
        u = (x.double() - self.location) / self.scale
        return u, -self.scale.log().expand_as(u)

    def inverse_terms(self, u: Tensor) -> Pair:
        """Standardised rows u (N, D) to x."""
        x = u.double() * self.scale + self.location
        return x, self.scale.log().expand_as(x)


class Logit(Columnwise):
    """u = logit(s) with s = α + (1 − 2α)·x/levels, for pixel values x on [0, levels) (MAF paper, section 4.3).

    log_det = Σ log((1 − 2α)/levels) − log s − log(1 − s) is that of the map from pixel *values*. So the density is one
    of pixel values, and minus its mean over the pixels, in bits, is bits per pixel: no number of levels is added
    (appendix E.2 takes pixels in [0, 1], and adds log2 levels).
    """

    def __init__(self, alpha: float, levels: int) -> None:
        super().__init__()
        self.alpha, self.levels = alpha, levels

    def by_column(self, x: Tensor) -> Pair:
        """Pixel values x (N, D) to u; NaN where a value lies outside."""
        s = self.alpha + (1 - 2 * self.alpha) * x.double() / self.levels
        u = torch.log(s) - torch.log1p(-s)
        return u, self._log_slopes(u)

    def inverse_terms(self, u: Tensor) -> Pair:
        """Logits u (N, D) to x. What is beyond every pixel's logit becomes the nearest pixel value."""
        u = u.double()
        x = (torch.sigmoid(u) - self.alpha) / (1 - 2 * self.alpha) * self.levels
        return x.clamp(0, math.nextafter(self.levels, 0)), -self._log_slopes(u)

    def _log_slopes(self, u: Tensor) -> Tensor:
        log_slope = logsigmoid(u) + logsigmoid(-u)  # of s: ds/du = s(1 − s)
        return math.log((1 - 2 * self.alpha) / self.levels) - log_slope


class SubtractMean(Transform):
    """u_i = (x_i − mean x)/levels for all pixels of a patch but the last, which follows from the others.

    It is no bijection of the D + 1 pixels x: the patch's mean is dropped. So what it leads to is the density of the
    first D of the mean-free pixels x_i − mean x, in units of grey levels: log_det = −D·log levels. The mean does not
    come back: the inverse gives the D + 1 pixels of a patch whose mean is 0, in grey levels (Zoran and Weiss 2011).
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Pair:
        """Patches x (N, D + 1) in grey levels to (u (N, D), log_det)."""
        x = x.double() / self.levels
        u = (x - x.mean(1, keepdim=True))[:, :-1]
        return u, _zeros(u) - u.shape[1] * math.log(self.levels)

    def inverse(self, u: Tensor) -> Pair:
        """Rows u (N, D) to (x (N, D + 1), log_det), the pixels of each patch adding up to 0."""
        u = u.double()
        x = torch.cat([u, -u.sum(1, keepdim=True)], dim=1) * self.levels
        return x, _zeros(u) + u.shape[1] * math.log(self.levels)


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.float64, device=x.device)
