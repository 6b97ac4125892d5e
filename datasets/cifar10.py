"""CIFAR-10's colour images as 3,072 logits (MAF paper, section 4.3).

A quirk kept on purpose: the training images are followed by their mirror images, flipped *after* dequantisation, so
that both have the same noise.
"""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from flowbench.data import Card, RawFile, Splits
from flowbench.data.preparing.images import dequantised_logits, pixel_steps
from flowbench.data.preparing.partial import in_proportion
from flowbench.data.sources import pickles
from flowbench.data.sources.raw import content, reading

_ARCHIVE = "cifar-10-binary.tar.gz"
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = "test_batch"
_N_VALIDATION = 5_000
_LEVELS = 256
_ALPHA = 0.05
_CHANNELS, _SIDE = 3, 32
_MOST_BYTES = 64 << 20  # of a batch, which has 31 MB

CARD = Card(
    name="cifar10",
    version=1,
    title="CIFAR-10 photographs, 32x32 pixels in three colours, with mirror images",
    source_url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated",
    citation="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
    dim=_CHANNELS * _SIDE * _SIDE,
    n_train=90_000,
    n_validation=_N_VALIDATION,
    n_test=10_000,
    space="logit",
    files=(
        RawFile(
            _ARCHIVE,
            f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}",
            mirrors=(f"https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/{_ARCHIVE}",),
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            size_bytes=170_052_171,
            # the same images as pickles, and either archive unpacked
            alternatives=("cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-batches-py"),
        ),
    ),
    ready_made=tuple(f"data/cifar10/{batch}" for batch in (*_TRAIN, _TEST)),
    gaussian_test_ll=2367,
    gaussian_tolerance=2,
)


SOME_FILES_DO = True  # whose images are split in proportion, where that is allowed

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Five batches, of which the last 5,000 images are for validation and the others are mirrored; the test batch."""
    # one stream of noise in this order: the published rows
    parts = _split({name: images for name, (images, _) in _read_batches(raw).items()})
    train, validation, test = (dequantised_logits(images, _LEVELS, _ALPHA, rng) for images in parts)
    return Splits(_with_mirror_images(train), validation, test, preprocessing=pixel_steps(_LEVELS, _ALPHA))


def labels(raw: Mapping[str, Path]) -> list[np.ndarray]:
    """What each image of each split shows; a mirror image shows the same."""
    train, validation, test = _split({name: found for name, (_, found) in _read_batches(raw).items()})
    return [np.tile(train, 2), validation, test]


def _split(batches: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The three parts of what each batch has; of fewer batches or smaller ones, in proportion."""
    rows = 50_000 - _N_VALIDATION, _N_VALIDATION
    trained = [batches[name] for name in _TRAIN if name in batches]
    if trained and _TEST in batches:
        return [*in_proportion(np.concatenate(trained), rows), batches[_TEST]]
    return in_proportion(np.concatenate(list(batches.values())), (*rows, CARD.n_test))


def _with_mirror_images(rows: np.ndarray) -> np.ndarray:
    images = rows.reshape(-1, _CHANNELS, _SIDE, _SIDE)
    return np.concatenate([images, images[..., ::-1]]).reshape(-1, CARD.dim)


def _read_batches(raw: Mapping[str, Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels (10000, 3072) and labels (10000,) by the name of their batch."""
    source = raw.get(_ARCHIVE)
    files = _files(source) if source is not None else ((name, path.read_bytes()) for name, path in raw.items())
    origin = source if source is not None else next(iter(raw.values())).parent
    with reading(origin):
        batches = {PurePosixPath(name).stem: _pixels(name, content, origin) for name, content in files}
        if not batches:
            raise ValueError(f"there is no {', '.join((*_TRAIN, _TEST))} in it")
    return batches


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each batch in a folder or a tar file; nothing is ever unpacked onto the disk."""
    wanted = {f"{batch}{suffix}" for batch in (*_TRAIN, _TEST) for suffix in ("", ".bin")}
    if source.is_dir():
        yield from ((path.name, path.read_bytes()) for path in sorted(source.iterdir()) if path.name in wanted)
        return
    with tarfile.open(source, "r|*") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            file = archive.extractfile(member) if member.isfile() and name in wanted else None
            if file is not None:
                yield name, content(file, _MOST_BYTES)


def _pixels(name: str, content: bytes, origin: Path) -> tuple[np.ndarray, np.ndarray]:
    """One batch and its labels: in a .bin file a label and 3,072 pixels an image, else a pickled dict."""
    if name.endswith(".bin"):
        images = np.frombuffer(content, np.uint8).reshape(-1, 1 + CARD.dim)
        return images[:, 1:], images[:, 0]
    match pickles.load(content, origin / name):
        case {"data": data, **more}:
            pixels, found = pickles.array(data), np.asarray(more.get("labels", ()), np.int64)
        case _:
            raise ValueError(f"{name} holds no images")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != CARD.dim:
        raise ValueError(f"{name} holds {pixels.dtype} of shape {pixels.shape}, expected bytes (images, {CARD.dim})")
    return pixels, found
