"""What all tests share: doubles where mathematics is checked, and results that land in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared data goes to a temporary cache, that of subprocesses too. Raw files come from FLOWBENCH_DATA_DIR."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    """Mathematics is checked in doubles, where an error is a wrong formula and not rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
