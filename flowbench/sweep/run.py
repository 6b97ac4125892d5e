"""Many runs carried out, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flowbench.console import note, plural
from flowbench.sweep.board import Board
from flowbench.sweep.conduct import State, Workers, conduct
from flowbench.sweep.local import Local, shares
from flowbench.sweep.spec import Job
from flowbench.training.order import How


@dataclass(frozen=True)
class Machines:
    """Where runs are carried out: how many ``at_once``, the threads and bytes of each, the names of GPUs that are here.

    ``ray`` is the address of a cluster; None: on this machine.
    """

    at_once: int | None = None
    threads: int | None = None
    gpus: tuple[str, ...] = ()
    memory: int | None = None
    ray: str | None = None


def carry_out_all(
    jobs: Sequence[Job], folder: Path, machines: Machines, how: How, deadline: float | None = None
) -> list[State]:
    """Carry out all runs, each in its own time; what became of each. Logs of those that ended well go.

    Raises:
        UsageError: there is no such cluster.
    """
    logs = folder / "logs"
    workers, threads = _workers(jobs, folder, machines, how)
    with Board(min(workers.slots, len(jobs))) as board:
        states = conduct([job.on(threads) for job in jobs], workers, board.show, deadline)
    for state in states:
        if state.stage in ("ok", "finished"):
            with suppress(OSError):
                (logs / state.job.log).unlink(missing_ok=True)
    with suppress(OSError):
        logs.rmdir()
    return states


def _workers(jobs: Sequence[Job], folder: Path, machines: Machines, how: How) -> tuple[Workers, int]:
    """Who carries them out, and the threads of each run."""
    if machines.ray is not None:
        from flowbench.sweep.cluster import Cluster

        threads = machines.threads or 1
        return Cluster(machines.ray, threads, machines.memory, jobs[0].order.device, folder, how), threads
    share = shares(len(jobs), machines.at_once, machines.threads, machines.gpus, machines.memory)
    note(f"{plural(len(jobs), 'run')}, {share.slots} at a time, {plural(share.threads, 'thread')} each")
    return Local(share, folder, folder / "logs", how), share.threads
