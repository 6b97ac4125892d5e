"""The mathematics: invertible maps with their log-determinants, each file its equations in plain torch."""

from flowbench.transforms.act_norm import ActNorm
from flowbench.transforms.activation import ACTIVATIONS, ELU, RELU, TANH, Activation
from flowbench.transforms.affine import Affine
from flowbench.transforms.autoregressive import MaskedAutoregressive
from flowbench.transforms.batch_norm import BatchNorm
from flowbench.transforms.coupling import Coupling, dense
from flowbench.transforms.gated import Gated
from flowbench.transforms.linear import LULinear
from flowbench.transforms.linear_spline import LogisticSpline
from flowbench.transforms.made import MADE
from flowbench.transforms.mixture import GaussianMixture
from flowbench.transforms.network import Body, Network
from flowbench.transforms.patch_symmetry import PatchSymmetry
from flowbench.transforms.permutation import Permutation
from flowbench.transforms.spline import RationalQuadraticSpline
from flowbench.transforms.transform import (
    Chain,
    Inverse,
    Pair,
    Transform,
    Undirected,
    WithStart,
    WithStatistics,
    beside,
)
from flowbench.transforms.univariate import Univariate, standard_normal
from flowbench.transforms.whitening import Whitening

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "MADE",
    "RELU",
    "TANH",
    "ActNorm",
    "Activation",
    "Affine",
    "BatchNorm",
    "Body",
    "Chain",
    "Coupling",
    "Gated",
    "GaussianMixture",
    "Inverse",
    "LULinear",
    "LogisticSpline",
    "MaskedAutoregressive",
    "Network",
    "Pair",
    "PatchSymmetry",
    "Permutation",
    "RationalQuadraticSpline",
    "Transform",
    "Undirected",
    "Univariate",
    "Whitening",
    "WithStart",
    "WithStatistics",
    "beside",
    "dense",
    "standard_normal",
]
