"""Inverse Autoregressive Flow: Kingma et al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow".

MAF with the directions of its autoregressive transform exchanged, and nothing else. A sample is one pass of each
network, the density of given rows D in the textbook and one by substitution: it can be trained by maximum likelihood.
"""

from __future__ import annotations

from flowbench.flows import Flow, maf
from flowbench.flows.core.assembly import stack
from flowbench.flows.core.given import Given
from flowbench.transforms import Chain, Inverse

Options = maf.Options


def build(dim: int, options: maf.Options, given: Given | None = None) -> Flow:
    """An IAF over rows of ``dim`` columns."""
    steps = [Inverse(maf.autoregressive(dim, options, given)) for _ in range(options.transforms)]
    return Flow(dim, Chain(stack(dim, steps, options)), given=given)
