"""GAS: sixteen chemical sensors in mixtures of ethylene and carbon monoxide (MAF paper, section 4.2).

Quirks kept on purpose: of columns that correlate the *first* one is dropped, again and again, so which ones stay
depends on their order; and the mean and standard deviation are those of all rows, the test rows among them.

The published set is a quarter of the recording, drawn once with an unknown seed: the reference code has the line
``sample(frac=0.25)`` in a comment, and the published sizes are a quarter of 4,208,261, the rows that UCI's text is
said to have. It lies ready-made in ethylene_CO.pickle. From the text a quarter is drawn anew, in random order as
pandas draws it: statistically, not row for row, the published set. A few extreme rows carry much of the likelihood's
variance, so the Gaussian value of such a draw is known to a nat or so.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, RawFile, Splits, split_last_tenths
from flowbench.data.preprocessing import Standardise
from flowbench.data.sources import pickles
from flowbench.data.sources.raw import opened

_ARCHIVE = "gas+sensor+array+under+dynamic+gas+mixtures.zip"
_MEMBER = "ethylene_CO.txt"
_READY_MADE = "ethylene_CO.pickle"

CARD = Card(
    name="gas",
    version=1,
    title="Gas sensor array under dynamic gas mixtures, ethylene and CO",
    source_url="https://archive.ics.uci.edu/dataset/322",
    licence="CC BY 4.0",
    citation="J. Fonollosa, S. Sheik, R. Huerta, S. Marco: Reservoir computing compensates slow response of "
    "chemosensor arrays exposed to fast varying gas concentrations in continuous monitoring, "
    "Sensors and Actuators B 215 (2015)",
    dim=8,
    n_train=852_174,
    n_validation=94_685,
    n_test=105_206,
    space="standardised",
    files=(
        RawFile(
            _ARCHIVE,
            f"https://archive.ics.uci.edu/static/public/322/{_ARCHIVE}",
            # data.zip is UCI's older archive of the same two texts; of none it publishes a checksum
            alternatives=("data.zip", _MEMBER),
        ),
    ),
    ready_made=(f"data/gas/{_READY_MADE}",),
    gaussian_test_ll=-3.58,
    gaussian_tolerance=1.5,  # four standard errors: another quarter has other extreme rows
)

_N_SENSORS = 16
_DROPPED = ("Meth", "Eth", "Time")
_MOST_CORRELATION = 0.98
_MOST_BYTES = 1 << 30  # of the text, which has some 640 MB


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """The sensors that do not correlate, standardised, split in the order of the rows."""
    columns = _read_frame(raw[_READY_MADE]) if _READY_MADE in raw else _sample_text(raw[_ARCHIVE], rng)
    rows = np.column_stack(list(columns.values()))
    kept = uncorrelated(rows)
    rows = rows[:, kept]
    mean, std = rows.mean(axis=0), rows.std(axis=0, ddof=1)
    train, validation, test = split_last_tenths((rows - mean) / std)
    names = tuple(list(columns)[i] for i in kept)
    return Splits(train, validation, test, columns=names, preprocessing=(Standardise.of(mean, std),))


def uncorrelated(rows: np.ndarray) -> list[int]:
    """The columns left when, while any two correlate above 0.98, the first that does so is dropped."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a constant column correlates with none
        related = np.corrcoef(rows.T) > _MOST_CORRELATION
    kept = list(range(len(related)))
    # a column is related to itself
    while crowded := [i for i in kept if related[i, kept].sum() > 1]:
        kept.remove(crowded[0])
    return kept


def _read_frame(path: Path) -> dict[str, np.ndarray]:
    """The sensors' columns of the ready-made data frame, whose gases have the names of another mixture."""
    with opened(path, path.name, _MOST_BYTES) as packed:
        columns = pickles.frame(pickles.load(packed.read(), path))
        for name in _DROPPED:
            del columns[name]
    return columns


def _sample_text(path: Path, rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """A quarter of the text's rows, in random order: time, two concentrations, then the sensors, after one header."""
    import pandas as pd

    sensors = range(len(_DROPPED), len(_DROPPED) + _N_SENSORS)
    with opened(path, _MEMBER, _MOST_BYTES) as text:
        rows = pd.read_csv(text, sep=r"\s+", header=None, skiprows=1, usecols=list(sensors), dtype=np.float64)
        values = rows.to_numpy()
    drawn = values[rng.permutation(len(values))[: round(len(values) / 4)]]
    return {f"sensor_{i}": column for i, column in enumerate(drawn.T, start=1)}
