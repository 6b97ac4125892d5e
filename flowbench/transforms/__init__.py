"""The mathematics: invertible maps with their log-determinants. Of flowbench it imports nothing else."""

from flowbench.transforms.autoregressive import MaskedAutoregressive
from flowbench.transforms.coupling import AffineCoupling
from flowbench.transforms.made import MADE
from flowbench.transforms.network import Network
from flowbench.transforms.normalise import BatchNorm, Permutation
from flowbench.transforms.transform import Chain, Inverse, Transform, WrittenTransform
from flowbench.transforms.univariate import Affine, Univariate

__all__ = [
    "MADE",
    "Affine",
    "AffineCoupling",
    "BatchNorm",
    "Chain",
    "Inverse",
    "MaskedAutoregressive",
    "Network",
    "Permutation",
    "Transform",
    "Univariate",
    "WrittenTransform",
]
