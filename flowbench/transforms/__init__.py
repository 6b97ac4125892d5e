"""The mathematics: invertible maps with their log-determinants, each file its equations in plain torch."""

from flowbench.transforms.activation import ACTIVATIONS, Activation
from flowbench.transforms.autoregressive import MaskedAutoregressive
from flowbench.transforms.batch_norm import BatchNorm
from flowbench.transforms.coupling import Coupling, dense
from flowbench.transforms.made import MADE
from flowbench.transforms.network import Network
from flowbench.transforms.permutation import Permutation
from flowbench.transforms.transform import Chain, Inverse, Pair, Transform, WithStatistics
from flowbench.transforms.univariate import Affine, Univariate

__all__ = [
    "ACTIVATIONS",
    "MADE",
    "Activation",
    "Affine",
    "BatchNorm",
    "Chain",
    "Coupling",
    "Inverse",
    "MaskedAutoregressive",
    "Network",
    "Pair",
    "Permutation",
    "Transform",
    "Univariate",
    "WithStatistics",
    "dense",
]
