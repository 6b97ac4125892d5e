"""A page in a real browser, opened as from a mail: from a file, offline."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opened import FLAGS, Opened
from sketch_cases import write_results

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or os.environ.get("CHROMIUM")


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a folder of results with all that there is to show."""
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    from flowbench.cli.report import report

    folder = tmp_path_factory.mktemp('of "results"')
    write_results(folder)
    report(folder, out=folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    """The page, which is to do nothing that it should not."""
    found = Opened(browser, page_file)
    yield found
    found.context.close()
    assert found.wrong == []
