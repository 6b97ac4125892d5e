"""A user's own table in a file, loaded or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flowbench.data import Dataset, TableOptions, load
from flowbench.errors import DataError, FlowbenchError


def loaded(folder: Path, frame: pd.DataFrame, **options: Any) -> Dataset:
    """The table as a dataset, whose last rows are its test rows unless the options say otherwise."""
    frame.to_csv(folder / "t.csv", index=False)
    return load(str(folder / "t.csv"), table_options=TableOptions(**{"split": "time"} | options))


def refusal(folder: Path, frame: pd.DataFrame, kind: type[FlowbenchError] = DataError, **options: Any) -> str:
    """What is said, with its hint, of a table that is refused."""
    with pytest.raises(kind) as caught:
        loaded(folder, frame, **options)
    return f"{caught.value} | {caught.value.hint}"
