"""The memory that a training takes, foreseen from its structure: what cannot fit is refused before any work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.filesize import decimal

from flowbench.console import plural
from flowbench.data import Dataset
from flowbench.data.rows import held_by
from flowbench.engines import choose
from flowbench.errors import ShortOfMemoryError
from flowbench.flows import Flow
from flowbench.flows.core.batches import free_bytes
from flowbench.flows.core.room import OPERATIONS, NoRoomError, Room
from flowbench.transforms import WithStatistics

PARAMETERS, STATES = 11, 6
"""How many times the parameters and the flow's state (its matrices whole) are held at the most, beside the flow itself.

The parameters' are their gradient and two moments, four of the rehearsal's copy, whose memory is kept, and the moments
twice more where a checkpoint is written; the state's the best epoch's, the present one, and both twice more there. What
is foreseen so was 0.9 to 1.1 times what the system lent to trainings that chains run (6 to 784 columns, batches of 100
to 50,000 rows, on a CPU), and 0.75 to 1.65 times where torch's calls do: there, a large batch's memory serves again
for a checkpoint.
"""

ON_A_GPU = 7, 2
"""The same there, where no checkpoint is put together; not measured yet."""

PACKED = 0.5
"""Of a network's weights, the part that masks may leave to train."""


@dataclass(frozen=True)
class Needs:
    """Bytes that a training holds beside its flow: for the parameters, for a batch on its way, and for the data."""

    parameters: int
    batch: int
    data: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.batch + self.data


@contextmanager
def room_to_train(device: str | torch.device) -> Iterator[None]:
    """Building a flow, as far as the memory that is available has room for it and for its training on a device.

    Raises:
        ShortOfMemoryError: it has not; found as soon as too many weights are asked for, before they are there.
    """
    free, own = (free_bytes(torch.device(where)) for where in (device, "cpu"))
    parameters, states = ON_A_GPU if torch.device(device).type == "cuda" else (PARAMETERS, STATES)
    drawn = math.inf if free is None else free / (PACKED * parameters + states)
    try:
        with Room(math.inf if own is None else own, drawn, OPERATIONS):
            yield
    except NoRoomError as error:
        there = "" if free is None else f", and {decimal(free)} are available to train it, which holds it many times"
        raise ShortOfMemoryError(f"the flow is too large: {error}{there}", SMALLER) from error


SMALLER = "take a smaller hidden or fewer transforms"


def needs(flow: Flow, batch: int, data: int = 0) -> Needs:
    """Of a training of ``flow`` in batches of so many rows, on so many bytes of data."""
    trained = sum(parameter.nbytes for parameter in flow.parameters() if parameter.requires_grad)
    state = sum(tensor.nbytes for tensor in flow.state_dict().values())
    parameters, states = ON_A_GPU if flow.origin.is_cuda else (PARAMETERS, STATES)
    return Needs(parameters * trained + states * state, batch_bytes(flow, batch), data)


def batch_bytes(flow: Flow, rows: int) -> int:
    """What a step holds of so many rows on their way there and back."""
    engine, mode = flow.engine or choose(flow.origin), flow.training
    flow.train()  # normalisation by a batch keeps all of it
    held = [engine.held(stage, flow.dim, rows) for part in flow.parts for stage in engine.join(part.stages(), flow.dim)]
    flow.train(mode)
    numbers = sum(stage.kept for stage in held) + max((stage.passing for stage in held), default=0)
    return numbers * flow.origin.element_size()


def refuse_too_large(flow: Flow, batch: int, dataset: Dataset) -> None:
    """See that a training in batches of so many rows fits into the memory that is available, where that is known.

    Raises:
        ShortOfMemoryError: it does not.
    """
    available = free_bytes(flow.origin.device)
    if available is None or not any(parameter.requires_grad for parameter in flow.parameters()):
        return
    splits = dataset.train, dataset.validation, dataset.test
    train, *others = (held_by(split, str(flow.origin.device)) for split in splits)
    copies = 3 if any(isinstance(module, WithStatistics) for module in flow.modules()) else 1  # moved to what arrives
    need = needs(flow, batch, copies * train + sum(others))
    if need.total <= available:
        return
    size = sum(parameter.numel() for parameter in flow.parameters())
    raise ShortOfMemoryError(
        f"training needs about {decimal(need.total)} of memory, and {decimal(available)} are available: "
        f"{decimal(need.parameters)} for {plural(size, 'parameter')}, their gradients and what is kept of them, "
        f"{decimal(need.batch)} for a batch of {plural(batch, 'row')}, {decimal(need.data)} for the data",
        _what_fits(flow, batch, available - need.parameters - need.data),
    )


def _what_fits(flow: Flow, batch: int, left: int) -> str:
    """The hint: the largest batch that fits into what is left, if it is one that does not."""
    fits, too_many = 0, batch + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if batch_bytes(flow, middle) <= left else (fits, middle)
    return f"--set batch_size={fits} fits" if fits else f"no batch fits: {SMALLER}"
