"""A mixture of Gaussians: as a density that is drawn from directly, and as the monotone map that its CDF makes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowbench.transforms.univariate import Univariate, log_normal_mass, standard_normal

STEPS, HALVED = 240, 4
"""Of the safeguarded Newton iteration at the most. The bracket is halved in every fourth step, whatever Newton says: so
that is as many steps as double precision needs, where Newton's alone may be small ones towards a far end."""

FAR = 5.0
"""Standard deviations beyond which a tail's logarithm is inverted, and not the tail."""


LARGEST = 3.0
"""A log-scale up to which θ's are taken as they are; larger ones approach one more. Rows are of scale 1 or so: a number
far out, which is drawn now and then, must not widen the next columns' mixtures without limit, e-fold by e-fold."""


class GaussianMixture(Univariate):
    """p(x) = Σ_c w_c N(x; m_c, s_c), with θ = (logits of w, m, log s), C numbers each (MADE MoG, MAF paper, §3.1, §4).

    The largest log-scales are held (``LARGEST``).

    As a map it is u = Φ⁻¹(Σ_c w_c Φ((x − m_c)/s_c)), which makes x standard normal: so its density as a map is p(x).
    Both tails are taken by the logarithm of the smaller one, so that the map stays true where a CDF is 0 or 1 in
    floating point. Its inverse has no closed form: x lies between the least and the greatest m_c + s_c·u, and is found
    there by Newton's iteration on u(x), halved where that leaves the bracket; its gradient is the implicit one.
    """

    draws = 2
    start_share = 0.01
    """Every column begins with what it is by itself. Begun with weights of the usual size, means and widths are noise
    at first, and MNIST is 80 nats behind after the 800 steps of a hundred seconds."""

    def __init__(self, components: int) -> None:
        self.components = components
        self.parameters = 3 * components

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Equal weights, means spread over the bulk of a normal, and standard deviations that overlap."""
        shape = self.components, *mean.shape
        quantiles = torch.special.ndtri((torch.arange(self.components).to(mean) + 0.5) / self.components)
        means = mean + scale * quantiles.view(-1, *[1] * mean.ndim)
        log_scales = (scale.log() - 0.5 * math.log(self.components)).clamp(max=LARGEST).expand(shape)
        return torch.cat([torch.zeros_like(means), means, log_scales])

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x to (u, log p(x) − log φ(u))."""
        log_weights, means, log_scales = self._parts(theta)
        z = (x - means) * torch.exp(-log_scales)
        below, above = (torch.logsumexp(log_weights + torch.special.log_ndtr(side), 0) for side in (z, -z))
        u = torch.where(below < above, quantile(below), -quantile(above))
        log_p = torch.logsumexp(log_weights - log_scales + standard_normal(z), 0)
        return u, log_p - standard_normal(u)

    def inverse(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u to (x, log φ(u) − log p(x))."""
        with torch.no_grad():
            x = self._solve(u, theta)
        # one more step of Newton's, whose gradient is the implicit function's: −∂u/∂θ / ∂u/∂x, and 1 / ∂u/∂x
        reached, log_slope = self.forward(x, theta)
        x = x + (u - reached) * torch.exp(-log_slope.detach())
        return x, -self.forward(x, theta)[1]

    def density(self, x: Tensor, theta: Tensor) -> Tensor:
        """log p(x)."""
        log_weights, means, log_scales = self._parts(theta)
        z = (x - means) * torch.exp(-log_scales)
        return torch.logsumexp(log_weights - log_scales + standard_normal(z), 0)

    def log_mass(self, low: Tensor, high: Tensor, theta: Tensor) -> Tensor:
        """log Σ_c w_c (Φ((high − m_c)/s_c) − Φ((low − m_c)/s_c))."""
        log_weights, means, log_scales = self._parts(theta)
        below, above = ((edge - means) * torch.exp(-log_scales) for edge in (low, high))
        return torch.logsumexp(log_weights + log_normal_mass(below, above), 0)

    def draw(self, noise: Tensor, theta: Tensor) -> Tensor:
        """A component by the second number, and a draw of it by the first."""
        log_weights, means, log_scales = self._parts(theta)
        normal, uniform = noise
        passed = (log_weights.exp().cumsum(0) <= uniform).sum(0, keepdim=True)
        chosen = passed.clamp_max(self.components - 1)  # weights may add up to less than 1 in floating point
        mean, log_scale = means.gather(0, chosen)[0], log_scales.gather(0, chosen)[0]
        return mean + log_scale.exp() * normal

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = theta.unflatten(0, (3, self.components))
        over = (log_scales - LARGEST).clamp(min=0)
        return logits.log_softmax(0), means, torch.where(over > 0, LARGEST + over / (1 + over), log_scales)

    def _solve(self, u: Tensor, theta: Tensor) -> Tensor:
        _, means, log_scales = self._parts(theta)
        ends = means + log_scales.exp() * u
        low, high = ends.amin(0), ends.amax(0)
        x, settled = (low + high) / 2, torch.zeros_like(u, dtype=torch.bool)
        for step in range(STEPS):
            found, log_slope = self.forward(x, theta)
            low, high = torch.where(found < u, x, low), torch.where(found > u, x, high)
            newton, middle = x + (u - found) * torch.exp(-log_slope), (low + high) / 2
            taken = (newton > low) & (newton < high) & (step % HALVED != 0)
            moved = torch.where(taken, newton, middle)
            eps = 4 * torch.finfo(x.dtype).eps
            settled = settled | ((found - u).abs() <= eps * (1 + u.abs())) | (high - low <= eps * (1 + x.abs()))
            x = torch.where(settled, x, moved)
            if not _is_captured(u) and bool(settled.all()):
                break
        return x


def _is_captured(x: Tensor) -> bool:
    """Whether a CUDA graph is being made: then nothing may wait for the device."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def quantile(log_p: Tensor) -> Tensor:
    """Φ⁻¹(p) of log p ≤ log ½, elementwise: where p is too small for floating point, too."""
    log_p = log_p.clamp(max=-0.6)  # beyond ½ it is not taken, and must only not be infinite
    near = torch.special.ndtri(log_p.clamp(min=-0.5 * FAR**2).exp())
    with torch.no_grad():
        u = -torch.sqrt((-2 * log_p).clamp(min=1.0))
        for _ in range(6):  # Newton's on log Φ, which is concave
            log_cdf = torch.special.log_ndtr(u)
            u = u - (log_cdf - log_p) * torch.exp(log_cdf - standard_normal(u))
    slope = torch.exp(log_p.detach() - standard_normal(u))  # ∂u/∂ log p
    far = u + (log_p - log_p.detach()) * slope
    return torch.where(log_p > -0.5 * FAR**2, near, far)
