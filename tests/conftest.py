"""What all tests share: doubles where mathematics is checked, and results that land in a temporary folder."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import loopback
import pytest
import torch

from flowbench.data.sources import download

if not torch.cuda.is_available():  # before Triton is imported: then CUDA's kernels are interpreted, on the CPU
    os.environ["TRITON_INTERPRET"] = "1"


FIRST = (
    "sweep/test_cluster.py", "sweep/test_local.py", "timing/test_peers_best.py", "timing/test_against.py",
    "timing/test_peers.py", "cli/test_breaks.py", "cli/test_cli.py", "test_outside.py",
)  # fmt: skip
"""Files of few tests that take long: begun last, one of two processes would wait for the other at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(FIRST))


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared data goes to a temporary cache, that of subprocesses too. Raw files come from FLOWBENCH_DATA_DIR,
    never from the network.

    One thread: the flows of tests are small, and threads that wait for each other on a busy machine take ten times
    longer.
    """
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("FLOWBENCH_OFFLINE", "1")
        yield


@pytest.fixture(scope="module", autouse=True)
def _what_is_imported_is_no_garbage() -> None:
    """Each training looks for garbage before it takes its memory, which in two million objects of torch, pytest and
    the tests takes a quarter of a second: as long as most trainings of tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, with an empty cache beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def float64() -> Iterator[None]:
    """Mathematics is checked in doubles, where an error is a wrong formula and not rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def server() -> Iterator[loopback.LoopbackServer]:
    """An HTTP server on the loopback."""
    with loopback.running() as it:
        yield it


@pytest.fixture
def data_dir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, downloads allowed, and no waiting for a server to recover."""
    monkeypatch.delenv("FLOWBENCH_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
    return folder
