"""A page that is open in a browser, and what it did that it should not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


class Opened:
    """A page that is open, and what it did that it should not have: errors, requests, questions."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "offline": True} | context)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(f"{said.type}: {said.text}"))
        self.page.on("dialog", lambda asked: (self.wrong.append(asked.message), asked.dismiss()))
        self.page.on("request", self._asked)
        self._url = file.as_uri()

    def _asked(self, request: Any) -> None:
        if request.url.partition("#")[0] != self._url and not request.url.startswith(("data:", "blob:")):
            self.wrong.append(request.url)

    def at(self, address: str = "") -> Any:
        """The page at an address, with all its pictures drawn."""
        self.page.goto(f"{self._url}#/{address}")
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        self.page.evaluate("Promise.all([...document.querySelectorAll('.chart')].map((chart) => chart.draw()))")
        return self.page
