"""What has come of a download that may have broken off, so that it can be gone on with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


class Part:
    """The bytes that have come, and beside them which file they are of: its URL, its validator, its length."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._origin = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes; 0 where there are none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def start(self, url: str, validator: str | None, total: int | None) -> None:
        """Begin anew, of the file that the server describes so."""
        self.path.write_bytes(b"")  # first: the old bytes must never be taken for the new file's
        self._origin.write_text(json.dumps({"url": url, "validator": validator, "total": total}), "utf-8")

    def is_complete(self, url: str) -> bool:
        """Whether all of the file at this URL has come."""
        return self.size > 0 and self._of(url).get("total") == self.size

    def range(self, url: str) -> dict[str, str]:
        """Headers that ask for the rest if the file is still the same, else for all of it (RFC 9110, 13.1.5)."""
        validator = self._of(url).get("validator")
        return {"Range": f"bytes={self.size}-", "If-Range": validator} if self.size and validator else {}

    def total_if_continued(self, content_range: str) -> int:
        """The whole file's length, from a header like ``bytes 500-999/1000``."""
        import requests

        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
        if found is None or int(found[1]) != self.size:
            self.discard()
            raise requests.ConnectionError("the server sends another part of the file than the one asked for")
        return int(found[2])

    def move(self, target: Path) -> None:
        """Give the file its name."""
        self.path.replace(target)
        self._origin.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what has come."""
        self.path.unlink(missing_ok=True)
        self._origin.unlink(missing_ok=True)

    def _of(self, url: str) -> dict[str, Any]:
        try:
            origin = json.loads(self._origin.read_text("utf-8"))
            return dict(origin) if origin["url"] == url else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
