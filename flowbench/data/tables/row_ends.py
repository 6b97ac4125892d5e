"""Where the rows of CSV end: at the ends of lines that are outside of quotation marks."""

from __future__ import annotations

import re


class RowEnds:
    r"""Finds them in text that comes by and by, and looks at nothing twice but at a field that is not closed yet.

    A row ends by \n, \r\n or \r. A quotation mark opens a field if the field begins with it, and closes it unless it
    is doubled.
    """

    def __init__(self, delimiter: str) -> None:
        edge = rb"\r\n" + re.escape(delimiter.encode())
        # a closing mark is one once it is known what follows; possessive, so that no way back is kept in memory
        field = rb"(?<![^" + edge + rb'])"[^"]*+(?:""[^"]*+)*+"(?=[^"])|(?<=[^' + edge + rb'])"'
        decided = rb'(?:[^"\r\n]++|' + field + rb")*+"
        self._decided, self._row = re.compile(decided), re.compile(decided + rb"[\r\n]")
        self._rows = re.compile(rb"(?:" + decided + rb"[\r\n])*+")
        self._seen = 0

    def last(self, text: bytearray) -> int:
        """Behind the last row that is whole, among what has come since this was asked; 0 where none is."""
        start = self._seen
        if text.find(b'"', start) < 0:  # as in most tables
            self._seen = len(text)
            return max(text.rfind(mark, start) for mark in (b"\n", b"\r")) + 1
        end = _match(self._rows, text, start)
        self._seen = _match(self._decided, text, end)
        return end if end > start else 0

    def first(self, text: bytearray) -> int:
        """Behind the first row, of text that has a whole one."""
        return _match(self._row, text, 0)

    def forget(self, length: int) -> None:
        """Be told that so much of the text's beginning was taken away."""
        self._seen -= length


def _match(pattern: re.Pattern[bytes], text: bytearray, start: int) -> int:
    """Where a match that begins there ends."""
    found = pattern.match(text, start)
    assert found is not None
    return found.end()
