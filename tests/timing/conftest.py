"""What the tests of times share."""

from __future__ import annotations

import pytest

from flowbench.timing import benchmark, yardsticks


@pytest.fixture(scope="session")
def matrix_rate() -> float:
    """This machine's, measured once: each measurement takes three seconds."""
    return yardsticks.matrix_rate("cpu")


@pytest.fixture
def quick(matrix_rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``flowbench time`` take that rate for its own measurement."""
    monkeypatch.setattr(benchmark, "matrix_rate", lambda device: matrix_rate)
