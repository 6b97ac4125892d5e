"""flowbench: how good a density can a normalizing flow learn of a table, and what does it cost?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowbench.use.estimator import FlowDensity

__version__ = "0.1.0"

__all__ = ["FlowDensity", "__version__"]

# Torch's OpenMP threads wait for each other many times in a training step, and by default they wait by spinning. Where
# another process wants the cores, that takes them from the very thread that is waited for. An epoch on patches took 8.1
# s on two quiet cores, and more than 190 s with one busy neighbour a core; with threads that sleep while they wait 8.0
# s and 18.7 s. OpenMP reads this once, when torch is loaded. What the user has set, by the name of any OpenMP runtime,
# stays.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ["OMP_WAIT_POLICY"] = "passive"


def __getattr__(name: str) -> Any:
    if name == "FlowDensity":  # not before it is asked for: torch and scikit-learn cost seconds
        from flowbench.use.estimator import FlowDensity

        return FlowDensity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
