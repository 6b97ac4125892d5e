"""What is done in a worker's process: one run, its log in a file, its progress told to whoever conducts the sweep."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flowbench import interrupts
from flowbench.console import show_error
from flowbench.errors import FlowbenchError
from flowbench.progress import Progress
from flowbench.sweep.spec import Job
from flowbench.training.order import How

if TYPE_CHECKING:
    from flowbench.results.record import RunRecord

Ending = Literal["ok", "finished", "diverged", "failed", "interrupted", "held"]


@dataclass(frozen=True)
class Begun:
    """A run is under way."""


@dataclass(frozen=True)
class Told:
    """How far a run is."""

    epoch: int
    of: int | None
    validation_ll_nats: float
    seconds_left: float | None


@dataclass(frozen=True)
class Done:
    """How a run ended: ``finished`` long before, ``held`` by another process, or as its record says.

    ``contents`` are the files of its record by name, where they are to be sent.
    """

    ending: Ending
    run: str | None = None
    error: str | None = None
    contents: dict[str, bytes] = field(default_factory=dict)


Tell = Callable[[Begun | Told], None]
"""How whoever conducts the sweep is told."""


class Telling(Progress):
    """A run's progress, told and written to its log."""

    def __init__(self, max_seconds: float | None, tell: Tell) -> None:
        super().__init__(max_seconds)
        self._tell = tell
        with suppress(OSError):  # nobody listens any longer
            tell(Begun())

    def epoch(self, number: int, of: int | None, train_ll: float, validation_ll: float, *more: Any) -> None:
        """As of a `Progress`."""
        super().epoch(number, of, train_ll, validation_ll, *more)
        with suppress(OSError):
            self._tell(Told(number, of, validation_ll, self.seconds_left(number, of, more[-1])))


def work(job: Job, folder: Path, log: Path, tell: Tell, how: How) -> Done:
    """Carry out a job's order. It never raises but for an interrupt."""
    from flowbench.training.carry_out import carry_out
    from flowbench.training.holding import HeldError

    found: list[RunRecord] = []
    with _standard_error_to(log):
        try:
            record = carry_out(job.order, folder, how, lambda seconds: Telling(seconds, tell), found.append)
        except HeldError as error:
            return Done("held", error=str(error))
        except FlowbenchError as error:
            show_error(error)
            return Done("failed", error=str(error))
        except Exception as error:
            import traceback

            traceback.print_exc()
            return Done("failed", error=f"{type(error).__name__}: {error}")
    return Done("finished" if found else record.status, record.run, record.error)


def work_away(job: Job, known: frozenset[str], tell: Tell, how: How) -> Done:
    """As `work`, on a machine that shares no folder: what it wrote is sent along; ``known`` runs are not done again."""
    from flowbench.results import store
    from flowbench.training.carry_out import name_of

    name = name_of(job.order)
    if name in known:
        return Done("finished", name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        done = work(job, folder / "results", folder / "log", tell, how)
        contents: dict[str, bytes] = {}
        if done.run is not None:
            path = folder / "results" / f"{done.run}.json"
            files = store.read(path).files
            names = [path.name, *files.names]
            contents |= {each: (path.parent / each).read_bytes() for each in names}
    return Done(done.ending, done.run, done.error, contents)


def prepare(threads: int, memory: int | None, surroundings: dict[str, str], parent: int) -> None:
    """Make this process a worker: its share of the machine, deaf to the terminal, gone when its parent is."""
    os.environ.update({"OMP_NUM_THREADS": str(threads)} | surroundings)
    interrupts.handle()
    for name in ("SIGINT", "SIGHUP"):  # the whole group gets them; the parent alone says when to stop
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with open(os.devnull, "r+b") as nothing:
        for stream in (0, 1, 2):
            os.dup2(nothing.fileno(), stream)
    if memory is not None:
        from flowbench.memory import limit_to

        limit_to(memory)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """End when the parent has: what is under way is saved first."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    os._exit(1)


@contextmanager
def _standard_error_to(log: Path) -> Iterator[None]:
    """What is said meanwhile goes to a file, or where there is no room for one nowhere."""
    before = os.dup(2)
    try:
        with suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
