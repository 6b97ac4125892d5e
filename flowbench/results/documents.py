"""What a file of results says, held against what one may say: JSON of a known schema, and within bounds. No torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from flowbench.errors import FlowbenchError, first_fault
from flowbench.files import small_content
from flowbench.results.record import SCHEMA_VERSION, Part

MOST_BYTES = 16 << 20
"""A larger file is no record: a table of a thousand columns has one of 100 kB."""

MOST_PARTS = 1_000_000
"""Nor is one of more commas and brackets, each of which may stand for a hundred bytes: 200,000 epochs have as many."""

MOST_SHOWN = 200
"""Characters that are shown of where a record is damaged."""

P = TypeVar("P", bound=Part)


class UnreadableRecordError(FlowbenchError):
    """A file of results that is damaged, or that a newer flowbench wrote (exit 1)."""


def document(path: Path) -> dict[str, Any]:
    """The JSON object in a file of results, of any schema that this flowbench knows.

    Raises:
        UnreadableRecordError: it is none, or of a newer schema.
    """
    return known(path, json_object(path, content(path)))


def known(path: Path, found: dict[str, Any], newest: int = SCHEMA_VERSION) -> dict[str, Any]:
    """The object, if it is of a schema that this flowbench knows, of which there is none after the ``newest``.

    Raises:
        UnreadableRecordError: it is of a newer one.
    """
    version = found.get("schema_version")
    if isinstance(version, int) and version > newest:
        raise UnreadableRecordError(
            f"{path} has schema version {version}, this flowbench knows {newest}", "upgrade flowbench"
        )
    return found


def parsed(path: Path, found: dict[str, Any], kind: type[P], upgraded: Callable[[Any], dict[str, Any]]) -> P:
    """The record in a document.

    Raises:
        UnreadableRecordError: it is no record of that kind.
    """
    try:
        # as a file's content, which is checked more strictly than what a program makes
        return kind.model_validate_json(to_json(upgraded(found) if found.get("schema_version") == 1 else found))
    except ValidationError as error:
        where, fault = first_fault(error)
        raise UnreadableRecordError(f"{path} is not a record: {where[:MOST_SHOWN]}: {fault}") from error


def content(path: Path) -> bytes:
    """All bytes of a file that a record may be.

    Raises:
        UnreadableRecordError: it is not there, no regular file, or more than any record.
    """
    try:
        found = small_content(path, MOST_BYTES)
        if sum(found.count(mark) for mark in (b",", b"[", b"{")) > MOST_PARTS:
            raise ValueError("it has more parts than any record")
        return found
    except (OSError, ValueError) as error:
        raise UnreadableRecordError(f"{path} cannot be read: {said(error)}", "move it away, or run it again") from error


def json_object(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON object in a file's content.

    Raises:
        UnreadableRecordError: it is none.
    """
    try:
        found = from_json(content)
    except ValueError as error:
        raise UnreadableRecordError(f"{path} is not readable JSON: {error}", "move it away, or run it again") from error
    if not isinstance(found, dict):
        raise UnreadableRecordError(f"{path} is not a record: it is no JSON object")
    return found


def said(error: Exception) -> str:
    """By the system without the path, which is named already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
