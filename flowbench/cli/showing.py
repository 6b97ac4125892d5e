"""What a command that trains prints at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from flowbench.console import print_json, print_result
from flowbench.errors import FlowbenchError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flowbench.results.record import Trained

T = TypeVar("T", bound="Trained")

KEEPS_FINITE = "a lower learning_rate, a log_scale_bound, or a clip_norm keeps it finite"


def show(record: T, summary: Callable[[T], RenderableType], as_json: bool) -> None:
    """Print the record: as a person reads it, or as JSON.

    Raises:
        FlowbenchError: the run ended in another way than well.
    """
    diverged = record.status == "diverged"
    if as_json:
        print_json(record.model_dump(mode="json"))
    elif not diverged:
        print_result(summary(record))
    if record.status != "ok":
        raise FlowbenchError(f"the run {record.status}: {record.error}", KEEPS_FINITE if diverged else None)
