"""What all tests share: doubles where mathematics is checked, and results that land in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def float64() -> Iterator[None]:
    """Mathematics is checked in doubles, where an error is a wrong formula and not rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
