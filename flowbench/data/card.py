"""What is known of a dataset before a byte of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Space = Literal["raw", "standardised", "logit", "patch", "binarised", "latent"]
"""The space in which likelihoods are reported, and published.

raw: the values as they are. standardised: each column minus its mean, over its standard deviation. logit: pixels
dequantised to (0, 1), then ``logit(alpha + (1 - 2 alpha) x)``. patch: 8x8 dequantised patches minus their mean, last
pixel dropped. binarised: pixels that are 1 with their intensity as the probability, else 0. latent: that of a density
which is known up to a constant.
"""


@dataclass(frozen=True)
class RawFile:
    """One file as its publisher offers it.

    ``mirrors`` are second URLs of the same bytes. ``alternatives`` are other names under which the same content may lie
    in the data folder (an unpacked archive, be it a file or a folder); no checksum is known of those. ``sha256`` and
    ``md5`` are the publisher's; None where none is known for certain.
    """

    name: str
    url: str
    mirrors: tuple[str, ...] = ()
    sha256: str | None = None
    md5: str | None = None
    size_bytes: int | None = None
    alternatives: tuple[str, ...] = ()

    @property
    def checksum(self) -> str:
        """The checksum in words, for messages."""
        if self.sha256:
            return f"sha256 {self.sha256}"
        return f"md5 {self.md5}" if self.md5 else "no published checksum; its content is checked instead"


READY_MADE = RawFile(
    "data.tar.gz",
    "https://zenodo.org/records/1161203/files/data.tar.gz",
    mirrors=(
        "https://zenodo.org/api/records/1161203/files/data.tar.gz/content",
        "https://zenodo.org/record/1161203/files/data.tar.gz?download=1",
    ),
    md5="9b9c9b0375315ad270eba4ce80c093ab",
)
"""The seven datasets as the MAF paper's own code reads them: about 857 MB, doi 10.5281/zenodo.1161203."""


@dataclass(frozen=True)
class Card:
    """A dataset's identity, its terms of use, and the figures that prove its preprocessing.

    ``version`` counts changes of the recipe that change its arrays: results of different versions are not comparable.
    ``gaussian_test_ll`` is the mean test log-likelihood (nats) of a full-covariance Gaussian fitted to the training
    rows; what is prepared must agree with it within ``gaussian_tolerance``.
    ``files`` are the publisher's, all of them needed; ``ready_made`` the members of the archive `READY_MADE` that serve
    in their place, again all of them. ``label_files`` are needed beside the publisher's where labels are given.
    """

    name: str
    version: int
    title: str
    source_url: str
    licence: str
    citation: str
    dim: int
    n_train: int
    n_validation: int
    n_test: int
    space: Space
    files: tuple[RawFile, ...] = ()
    ready_made: tuple[str, ...] = ()
    label_files: tuple[RawFile, ...] = ()
    gaussian_test_ll: float | None = None
    gaussian_tolerance: float | None = None

    @property
    def embedded(self) -> bool:
        """Whether it needs no raw files: it is drawn, or ships with a library."""
        return not self.files

    @property
    def rows(self) -> tuple[int, int, int]:
        """Rows of the training, validation and test split."""
        return self.n_train, self.n_validation, self.n_test
