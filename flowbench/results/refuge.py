"""A record where there is room for it. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.console import warn
from flowbench.errors import UsageError
from flowbench.files import refuges
from flowbench.results import store
from flowbench.results.record import Trained
from flowbench.results.sketch import Sketch


def write_anywhere(
    record: Trained,
    folder: Path,
    test_lls: NDArray[np.floating[Any]] | None,
    weights: bytes | None,
    sketch: Sketch | None,
) -> Path:
    """Write a record as `store.write` does, to ``folder`` or, with a warning, where a refuge takes it; its path.

    One that did not end well takes a name of its own where a finished one has the run's.

    Raises:
        UsageError: nothing takes it.
    """
    if record.status != "ok" and store.finished_as(type(record), folder, record.run):
        record = record.model_copy(update={"run": f"{record.run}-{record.status}"})
    reason = ""
    for place in (folder, *refuges(folder)):
        try:
            path = store.write(record, place, test_lls, weights, sketch)
        except UsageError as error:
            reason = reason or str(error)
            continue
        if reason:
            warn(f"{reason}: {record.run} is in {place}")
        return path
    raise UsageError(f"{reason}, nor anywhere else")
