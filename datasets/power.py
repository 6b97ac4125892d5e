"""POWER: a household's electric power, minute by minute (MAF paper, section 4.2)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowbench.data import Card, RawFile, Splits
from flowbench.data.preparing.columns import standardised_tenths
from flowbench.data.preprocessing import Dequantise
from flowbench.data.sources.raw import opened, read_npy

_ARCHIVE = "household_power_consumption.zip"
_MEMBER = "household_power_consumption.txt"

CARD = Card(
    name="power",
    version=1,
    title="Individual household electric power consumption",
    source_url="https://archive.ics.uci.edu/dataset/235",
    licence="CC BY 4.0",
    citation="G. Hebrail, A. Berard: Individual Household Electric Power Consumption, UCI 235, doi 10.24432/C58K54",
    dim=6,
    n_train=1_659_917,
    n_validation=184_435,
    n_test=204_928,
    space="standardised",
    files=(
        RawFile(
            _ARCHIVE,
            "https://archive.ics.uci.edu/ml/machine-learning-databases/00235/household_power_consumption.zip",
            alternatives=(_MEMBER,),  # UCI publishes no checksum: rows and Gaussian value identify the content
        ),
    ),
    ready_made=("data/power/data.npy",),
    gaussian_test_ll=-7.74,
    gaussian_tolerance=0.06,
)

_COLUMNS = (
    "Global_active_power",
    "Voltage",
    "Sub_metering_1",
    "Sub_metering_2",
    "Sub_metering_3",
    "Time",
)
# a row is complete if these are there too; they are dropped afterwards
_MOST_BYTES = 256 << 20  # of the text, which has 133 MB
_DROPPED = ("Global_reactive_power", "Global_intensity")


def prepare(raw: Mapping[str, Path], rng: np.random.RandomState) -> Splits:
    """Complete rows, shuffled, with uniform noise as wide as each column's resolution, split, standardised.

    The order of the draws is that of the reference code (gpapamak/maf, datasets/power.py). It adds none to the time of
    day. In the text that is a whole minute, whose density would be unbounded, so there a last draw is added to it; the
    ready-made rows get it too if they are found to hold whole minutes, and are left alone if they hold noise already.
    """
    rows = rng.permutation(_read_text(raw[_ARCHIVE]) if _ARCHIVE in raw else _read_array(raw["data.npy"]))
    n = len(rows)
    voltage = 0.01 * rng.random_sample((n, 1))
    active_power = 0.001 * rng.random_sample((n, 1))
    sub_meters = rng.random_sample((n, 3))
    whole = np.array_equal(rows[:, -1], np.floor(rows[:, -1]))
    minute = rng.random_sample((n, 1)) if whole else np.zeros((n, 1))
    rows += np.hstack([active_power, voltage, sub_meters, minute])
    return standardised_tenths(rows, _COLUMNS, (Dequantise(steps=(0.001, 0.01, 1, 1, 1, float(whole))),))


def _read_array(path: Path) -> np.ndarray:
    """The ready-made rows: the text's columns in its order, the time of day last."""
    return np.delete(read_npy(path, 8), [1, 3], axis=1)  # _DROPPED


def _read_text(path: Path) -> np.ndarray:
    """The complete rows (N, 6) of the text, zipped or not, in the units of _COLUMNS; the time in minutes."""
    import pyarrow as pa
    from pyarrow import csv

    types = {name: pa.float64() for name in (*_COLUMNS, *_DROPPED)} | {"Time": pa.time32("s")}
    convert = csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=["?", ""])
    with opened(path, _MEMBER, _MOST_BYTES) as text:
        table = csv.read_csv(text, parse_options=csv.ParseOptions(delimiter=";"), convert_options=convert)
        complete = table.drop_null()
    seconds = complete["Time"].cast(pa.int32()).to_numpy()
    return np.column_stack([complete[name].to_numpy() for name in _COLUMNS[:-1]] + [seconds / 60])
