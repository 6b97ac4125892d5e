"""The posterior of a Bayesian logistic regression, with reference moments by NUTS in ``logistic.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowbench.data.digests import rows_sha256
from flowbench.errors import DataError
from flowbench.transforms import standard_normal
from flowbench.variational.targets.target import Moments, Target


class Regression(NamedTuple):
    """What is regressed: rows x (N, D) with the intercept's 1 last, labels y (N,) of 0 and 1, names of the columns.

    ``sha256`` is that of the labels and rows as scikit-learn ships them, before they are standardised.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    names: list[str]
    sha256: str


def breast_cancer() -> Regression:
    """scikit-learn's Breast Cancer Wisconsin, 569 rows (y = 1: benign): 30 features, standardised, and an intercept."""
    from sklearn.datasets import load_breast_cancer  # takes a second to import

    embedded = load_breast_cancer()
    features, y = embedded.data, embedded.target
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    x = np.column_stack([standardised, np.ones(len(features))]).astype(np.float32)
    sha256 = rows_sha256(np.column_stack([y, features]).astype(np.float32))
    return Regression(x, y.astype(np.float32), [*map(str, embedded.feature_names), "intercept"], sha256)


class Logistic(Target):
    """log p̃(β) = log p(y, β | x) = Σ_d log N(β_d; 0, 1) + Σ_n log σ(s_n x_n·β), with s_n = ±1 as y_n is 1 or 0.

    The prior is that of the Inference Gym's ``LogisticRegression`` (Sountsov et al. 2020), the intercept's too. All
    constants are in p̃, so that log Z is the evidence log p(y | x); it is not known in closed form. A batch of N takes
    N × 569 numbers.
    """

    signed: Tensor
    """s_n x_n, (569, 31)."""

    def __init__(self) -> None:
        regression = breast_cancer()
        super().__init__(
            "logistic",
            dim=regression.x.shape[1],
            title="Bayesian logistic regression: benign or malignant, from 30 measures of breast cells",
            source="rows: UCI 17 (Wolberg et al. 1993), in scikit-learn; prior N(0, 1): Inference Gym (Sountsov et al. "
            "2020), LogisticRegression",
        )
        if regression.sha256 != _reference()["rows_sha256"]:
            raise DataError(
                "scikit-learn's breast cancer rows are not those whose reference moments flowbench has",
                "take another version of scikit-learn; scripts/nuts.py writes moments of other rows",
            )
        signs = 2 * regression.y[:, None] - 1
        self.register_buffer("signed", torch.from_numpy(signs * regression.x), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """log p(y, β = z | x), (N,) in nats, of z (N, 31)."""
        return standard_normal(z).sum(-1) + logsigmoid(z @ self.signed.to(z.dtype).T).sum(-1)

    @property
    def moments(self) -> Moments:
        """The posterior's, by NUTS."""
        reference = _reference()

        def column(key: str) -> Tensor:
            return torch.tensor([each[key] for each in reference["coefficients"]], dtype=torch.float64)

        return Moments(
            mean=column("mean"),
            sd=column("sd"),
            mean_stderr=column("mean_stderr"),
            sd_stderr=column("sd_stderr"),
            source=f"{reference['sampler']}, {reference['chains']} chains of {reference['draws']:,} draws",
        )


@cache
def _reference() -> dict[str, Any]:
    return tomllib.loads(files("flowbench.variational.targets").joinpath("logistic.toml").read_text(encoding="utf-8"))
