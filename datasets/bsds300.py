"""8x8 grey patches of the Berkeley segmentation photographs (MAF paper, section 4.2 and appendix).

From the photographs it is a rebuild: statistically, not bit for bit, the published set, whose patches were drawn with
an unknown seed. Those are in the ready-made BSDS300.hdf5.
"""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from flowbench.data import Card, RawFile, Splits
from flowbench.data.preparing.images import PATCH_STEPS, patch_splits
from flowbench.data.sources.raw import content, reading
from flowbench.errors import DataError

_ARCHIVE = "BSDS300-images.tgz"
_READY_MADE = "BSDS300.hdf5"
_PHOTOGRAPHS = {"train": 200, "test": 100}
_N_VALIDATION_PHOTOGRAPHS = 20
_MOST_BYTES, _MOST_PIXELS = 1 << 20, 1 << 20  # of a photograph, which has 481 x 321 pixels

CARD = Card(
    name="bsds300",
    version=1,
    title="BSDS300: 8x8 patches of 300 natural photographs",
    source_url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
    licence="research and education, non-commercial",
    citation="D. Martin, C. Fowlkes, D. Tal, J. Malik: A database of human segmented natural images, ICCV 2001",
    dim=63,
    n_train=1_000_000,
    n_validation=50_000,
    n_test=250_000,
    space="patch",
    files=(
        RawFile(
            _ARCHIVE,
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/BSDS300-images.tgz",
            # Berkeley publishes none. This is what others recorded of its download, together with a hash over names
            # and bytes of the 300 photographs (44584b06...0a24ef), which recompressed archives agree with
            sha256="a5f7d0e49fe135c75518a3543ced24470156fd69305ae77845dff2a5138652b4",
        ),
    ),
    ready_made=(f"data/BSDS300/{_READY_MADE}",),
    gaussian_test_ll=96.5,
    gaussian_tolerance=0.4,
)


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """The ready-made patches, or patches cut anew."""
    return _read_patches(raw[_READY_MADE]) if _READY_MADE in raw else _cut_patches(raw[_ARCHIVE], rng)


def _read_patches(path: Path) -> Splits:
    """The published rows, ready for use; nothing says which photographs they are of."""
    import h5py

    with reading(path), h5py.File(path) as file:
        parts = [file[part] for part in ("train", "validation", "test")]
        for part in parts:  # a small file may say that it holds any number of them
            shape = part.shape if isinstance(part, h5py.Dataset) else None
            if not (shape and shape[1:] == (CARD.dim,) and shape[0] <= CARD.n_train):
                raise ValueError(f"its {part.name} has shape {shape}, expected (rows, {CARD.dim})")
        train, validation, test = (np.asarray(part, np.float32) for part in parts)
    return Splits(train, validation, test, preprocessing=PATCH_STEPS)


def _cut_patches(archive: Path, rng: np.random.RandomState) -> Splits:
    """Patches at random places: training from 180 photographs, validation from the other 20, test from 100 more."""
    photographs = _read_photographs(archive)
    order = rng.permutation(len(photographs["train"]))
    train, validation = np.split(order, [len(order) - _N_VALIDATION_PHOTOGRAPHS])
    sources = (
        [photographs["train"][i] for i in train],
        [photographs["train"][i] for i in validation],
        photographs["test"],
    )
    return patch_splits(sources, CARD.rows, rng)


def _read_photographs(archive: Path) -> dict[str, list[np.ndarray]]:
    """Grey photographs by folder (train, test), sorted by name, streamed: nothing is ever unpacked onto the disk."""
    found: dict[str, dict[str, np.ndarray]] = {folder: {} for folder in _PHOTOGRAPHS}
    with reading(archive), tarfile.open(archive, "r|*") as stream:
        for member in stream:
            path = PurePosixPath(member.name)
            file = stream.extractfile(member) if member.isfile() and path.suffix == ".jpg" else None
            if file is not None and path.parent.name in found:
                with Image.open(io.BytesIO(content(file, _MOST_BYTES))) as image:
                    if image.width * image.height > _MOST_PIXELS or len(found[path.parent.name]) > 200:
                        raise ValueError(f"its {path.name} is none of the photographs")
                    found[path.parent.name][path.name] = np.asarray(image.convert("L"))
    for folder, expected in _PHOTOGRAPHS.items():
        if len(found[folder]) != expected:
            raise DataError(
                f"{archive} has {len(found[folder])} {folder} photographs, expected {expected}",
                "it may be cut short, or another archive: get it again",
            )
    return {folder: [images[name] for name in sorted(images)] for folder, images in found.items()}
