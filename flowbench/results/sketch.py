"""A small picture of what a flow learned, kept beside its record: histograms, a few rows and samples. No torch.

It is made when a run ends, so that whoever draws it needs neither weights nor data. Its size is bounded, whatever the
table's: tens of kilobytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flowbench.results.fields import Amount, Count, Figure, Name
from flowbench.results.record import Part

SCHEMA_VERSION = 1
"""Raised when a reader of the old sketches would misunderstand the new ones."""

MOST_BYTES = 4 << 20
"""Of a file: its pictures have the most of it."""

MOST_COLUMNS = 64
"""Columns with a histogram: all, or so many evenly spread."""

MOST_PAIRED = 10
"""Columns of the rows and samples that are kept as they are: the first of those with a histogram."""

MOST_ROWS = 200
"""Rows kept as they are, and samples."""

MOST_EXTREME = 8
"""Test rows kept of the least and of the most likely."""

MOST_NAMED = 4096
"""Columns whose names and calibration are kept."""

BINS = 40
PIT_BINS = 20

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A distance of Kolmogorov and Smirnov: the largest difference of two distribution functions; of classes, half the
sum of the differences of their shares."""

Histogram = Annotated[list[Count], Field(max_length=256)]

Cells = Annotated[list[list[Figure]], Field(max_length=MOST_ROWS)]
"""Rows of values; None where there is none."""


class Marginal(Part):
    """A column by itself: ``rows`` of the test split beside ``samples`` of the flow, in equal bins.

    Of a number, `BINS` equal ones from ``low`` to ``high``, between one bin for what lies below and one for what lies
    above. Of classes one bin a label. A column of numbers with values apart (atoms, missing values) has two: one with a
    bin for each such value and one for other numbers, and then that of these numbers. ``distance`` is that of rows and
    samples.
    """

    column: Count
    low: Figure = None
    high: Figure = None
    labels: Annotated[list[Name], Field(max_length=256)] | None = None
    rows: Histogram
    samples: Histogram
    distance: Share


class Calibration(Part):
    """A column of noise u = f(x) of the test rows, which is standard normal where the density is right.

    ``counts`` are of Φ(u) in `PIT_BINS` equal bins of [0, 1], its probability integral transform. ``distance`` is that
    of u and a standard normal variable.
    """

    column: Count
    mean: Figure = None
    sd: Figure = None
    distance: Share
    counts: Histogram


class LogDensities(Part):
    """Log-densities in nats of test rows, and of the flow's own samples, in equal bins from ``low`` to ``high``.

    The first and the last bin have what lies below and above. They are alike where the flow is right.
    """

    low: Figure
    high: Figure
    rows: Histogram
    samples: Histogram


class ExtremeRow(Part):
    """A test row: its place in the split, its log-density in nats, and a value for each of the marginals."""

    row: Count
    nats: Figure = None
    values: Annotated[list[Figure], Field(max_length=MOST_COLUMNS)]


class Image(Part):
    """Rows as pictures in one: ``across`` beside each other, each ``side`` pixels wide and high, as PNG in base64."""

    side: Count
    across: Count
    count: Count
    png: Annotated[str, Field(max_length=400_000, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class Images(Part):
    """Test rows, samples, and the least and the most likely test rows as pictures."""

    rows: Image
    samples: Image
    least_likely: Image
    most_likely: Image


class Sketch(Part):
    """What a run's flow learned, beside what it was to learn.

    ``units`` says what values are in: the data's own units, or the space they were learned in. ``columns`` are the
    names of the modelled columns, as far as they are kept. ``n_rows`` test rows (evenly spread over the split) and
    ``n_samples`` samples are counted. ``paired`` are the columns of ``rows`` and ``samples``.

    ``calibration`` is empty where a flow is no map to noise, and ``uncalibrated`` says why. It is ``exact`` where
    column i of u is the conditional's own, Φ⁻¹(F(x_i | x_<i)): for one autoregressive transform; after several, a
    column of u belongs to no single column of x. ``calibration_distances`` has all columns', in order.
    """

    schema_version: Count = SCHEMA_VERSION
    kind: Literal["sketch"] = "sketch"
    units: Name
    columns: Annotated[list[Name], Field(max_length=MOST_NAMED)]
    n_rows: Count
    n_samples: Count
    marginals: list[Marginal] = Field([], max_length=MOST_COLUMNS)
    paired: list[Count] = Field([], max_length=MOST_PAIRED)
    rows: Cells = Field([])
    samples: Cells = Field([])
    log_densities: LogDensities | None = None
    least_likely: list[ExtremeRow] = Field([], max_length=MOST_EXTREME)
    most_likely: list[ExtremeRow] = Field([], max_length=MOST_EXTREME)
    calibration: list[Calibration] = Field([], max_length=MOST_COLUMNS)
    calibration_distances: list[Amount] = Field([], max_length=MOST_NAMED)
    exact: bool = False
    uncalibrated: str | None = None
    images: Images | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Sketch:
        drawn = {each.column for each in self.marginals} | {each.column for each in self.calibration}
        if any(column >= len(self.columns) for column in (*drawn, *self.paired)):
            raise ValueError("a picture is of no column")
        if any(len(row) != len(self.paired) for row in (*self.rows, *self.samples)):
            raise ValueError("a row has not the columns that are paired")
        lls = self.log_densities
        counted = [(each.rows, each.samples) for each in self.marginals] + ([(lls.rows, lls.samples)] if lls else [])
        if any(len(rows) != len(samples) for rows, samples in counted):
            raise ValueError("rows and samples are counted in other bins")
        if any(each.labels is not None and len(each.labels) != len(each.rows) for each in self.marginals):
            raise ValueError("classes have not a count each")
        if any(len(each.counts) != PIT_BINS for each in self.calibration):
            raise ValueError("the noise is counted in other bins")
        if any(len(each.values) != len(self.marginals) for each in (*self.least_likely, *self.most_likely)):
            raise ValueError("a row has not the columns that are drawn")
        return self


def content(sketch: Sketch) -> bytes:
    """The sketch as its file has it."""
    return sketch.model_dump_json(exclude_none=True).encode()
