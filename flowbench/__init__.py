"""flowbench: how good a density can a normalizing flow learn of a table, and what does it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowbench.use.estimator import FlowDensity

__version__ = "0.1.0"

__all__ = ["FlowDensity", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "FlowDensity":  # not before it is asked for: torch and scikit-learn cost seconds
        from flowbench.use.estimator import FlowDensity

        return FlowDensity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
