"""Write ``flowbench/variational/targets/logistic.toml``: moments of the posterior of target ``logistic`` by NUTS.

``pip install numpyro`` first (no dependency of flowbench), then ``python scripts/nuts.py``; it takes two minutes of one
core. The model is written in numpyro's own words, so that a mistake in the target's formula would not be shared.
Convergence is held to what Vehtari et al. 2021, "Rank-normalization, folding, and localization: an improved R̂ for
assessing convergence of MCMC", ask for: R̂ below 1.01 and 400 effective draws. Here R̂ is the split one, without ranks,
of the draws and of their squared deviations.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import numpyro
import sklearn
from numpy.typing import NDArray
from numpyro import distributions
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from flowbench.variational.targets.logistic import Regression, breast_cancer

TOML = Path(__file__).parents[1] / "flowbench" / "inference" / "targets" / "logistic.toml"
CHAINS, WARMUP, DRAWS, SEED = 4, 2_000, 100_000, 0
MOST_R_HAT, LEAST_ESS = 1.01, 400

Float64 = NDArray[np.float64]


class Estimated(NamedTuple):
    """A mean (D,) over all chains, its Monte Carlo standard error, and what tells whether to believe that."""

    mean: Float64
    stderr: Float64
    r_hat: Float64
    ess: Float64


def estimated(values: Float64) -> Estimated:
    """Of values (chains, draws, D) the mean, with sd / √ESS for its standard error."""
    ess = effective_sample_size(values)
    stderr = values.std(axis=(0, 1)) / np.sqrt(ess)
    return Estimated(values.mean(axis=(0, 1)), stderr, split_gelman_rubin(values), ess)


def sample(regression: Regression) -> tuple[Float64, int]:
    """Draws (chains, draws, D) from the posterior, and how many transitions diverged."""

    def model() -> None:
        beta = numpyro.sample("beta", distributions.Normal(0, 1).expand([regression.x.shape[1]]).to_event(1))
        numpyro.sample("y", distributions.Bernoulli(logits=regression.x @ beta), obs=regression.y)

    chains = MCMC(
        NUTS(model, dense_mass=True),  # neighbouring features are nearly multiples of each other
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    chains.run(jax.random.PRNGKey(SEED))
    diverging = chains.get_extra_fields(group_by_chain=True)["diverging"]
    return np.asarray(chains.get_samples(group_by_chain=True)["beta"], np.float64), int(diverging.sum())


def written(regression: Regression, draws: Float64, divergences: int) -> str:
    """The file's text."""
    means = estimated(draws)
    variances = estimated((draws - means.mean) ** 2)
    sd = np.sqrt(variances.mean)
    r_hat = max(means.r_hat.max(), variances.r_hat.max())
    ess = min(means.ess.min(), variances.ess.min())
    if divergences or r_hat > MOST_R_HAT or ess < LEAST_ESS:
        sys.exit(f"not converged: {divergences} divergences, R-hat up to {r_hat:.4f}, {ess:.0f} effective draws")
    columns = zip(regression.names, means.mean, means.stderr, sd, variances.stderr / (2 * sd), strict=True)
    coefficients = (
        f'    {{ name = "{name}", mean = {mean:.5f}, mean_stderr = {mean_stderr:.5f}, '
        f"sd = {sd:.5f}, sd_stderr = {sd_stderr:.5f} }},\n"
        for name, mean, mean_stderr, sd, sd_stderr in columns
    )
    return f"""\
# Moments of the posterior of target `logistic`. Written by scripts/nuts.py: run that instead of editing this.
sampler = "NUTS (numpyro {numpyro.__version__}, jax {jax.__version__}, float64)"
rows_sha256 = "{regression.sha256}"  # of labels and raw features, scikit-learn {sklearn.__version__}
seed = {SEED}
chains = {CHAINS}
warmup = {WARMUP}  # of each chain, beside its draws
draws = {DRAWS}
divergences = {divergences}
largest_r_hat = {r_hat:.5f}  # split, of draws and of their squared deviations
least_ess = {ess:.0f}
coefficients = [  # standard errors are Monte Carlo's: sd / sqrt(ESS)
{"".join(coefficients)}]
"""


def main() -> None:
    """Sample, and write the file if the chains have converged."""
    jax.config.update("jax_enable_x64", True)
    regression = breast_cancer()
    TOML.write_text(written(regression, *sample(regression)), encoding="utf-8")


if __name__ == "__main__":
    main()
