"""The least likely rows of a table of any length."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from flowbench.use.densities import Scored


def lowest(batches: Iterable[Scored], count: int) -> Scored | None:
    """The ``count`` rows with the lowest log-densities, lowest first, of equal ones the earlier first.

    No more than these and a batch are held. Rows without a density are left out; None: no others came.
    """
    found: Scored | None = None
    for some in batches:
        least = some[~np.isnan(some.lls)]
        if len(least.lls):
            found = least if found is None else _together(found, least)
            found = found[np.argsort(found.lls, kind="stable")[:count]]
    return found


def _together(first: Scored, second: Scored) -> Scored:
    ids = None if first.ids is None or second.ids is None else np.concatenate([first.ids, second.ids])
    numbers, rows, lls = (
        np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("numbers", "rows", "lls")
    )
    return Scored(numbers, rows, lls, ids)
