"""MINIBOONE: signal events of a neutrino experiment (MAF paper, section 4.2).

A quirk kept on purpose: a column is dropped if its *smallest* value occurs more than five times, where the reference
code means the value that occurs most (`columns.varied`). So 43 columns stay, some with spikes in their
densities (a known defect of the published set).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, RawFile, Splits
from flowbench.data.preparing.columns import standardised_tenths, varied
from flowbench.data.sources.raw import opened, read_npy

_TEXT = "MiniBooNE_PID.txt"

CARD = Card(
    name="miniboone",
    version=1,
    title="MiniBooNE particle identification: electron neutrinos",
    source_url="https://archive.ics.uci.edu/dataset/199",
    licence="CC BY 4.0",
    citation="B. P. Roe et al.: Boosted decision trees as an alternative to artificial neural networks for particle "
    "identification, Nuclear Instruments and Methods A 543 (2005)",
    dim=43,
    n_train=29_556,
    n_validation=3_284,
    n_test=3_648,
    space="standardised",
    files=(
        RawFile(
            _TEXT,
            f"https://archive.ics.uci.edu/ml/machine-learning-databases/00199/{_TEXT}",
            # UCI publishes no checksum: rows and Gaussian value identify the content
            alternatives=("miniboone+particle+identification.zip",),
        ),
    ),
    ready_made=("data/miniboone/data.npy",),
    gaussian_test_ll=-37.24,
    gaussian_tolerance=0.1,
)

_N_COLUMNS = 50
_MOST_BYTES = 256 << 20  # of the text, which has some 90 MB
_LEAST = -100  # of the first column: below it, at -999, nothing was measured


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Measured signal events in varied columns, split in the file's order, standardised."""
    rows = _read_text(raw[_TEXT]) if _TEXT in raw else read_npy(raw["data.npy"], CARD.dim)
    return standardised_tenths(rows)


def _read_text(path: Path) -> np.ndarray:
    """What the ready-made array was made of: a line with the numbers of signal and background rows, then those rows."""
    import pandas as pd

    with opened(path, _TEXT, _MOST_BYTES) as text:
        n_signal, _ = map(int, text.readline(100).split())
        rows = pd.read_csv(text, sep=r"\s+", header=None, nrows=n_signal, dtype=np.float64).to_numpy()
        if rows.shape != (n_signal, _N_COLUMNS):
            raise ValueError(f"it has {rows.shape} signal rows and columns, expected {(n_signal, _N_COLUMNS)}")
    rows = rows[rows[:, 0] >= _LEAST]
    return rows[:, varied(rows)]
