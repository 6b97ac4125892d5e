"""A sweep from its order to its record: on this machine, or on a cluster."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flowbench.console import note, plural
from flowbench.sweep.board import Board
from flowbench.sweep.conduct import State, Workers, conduct
from flowbench.sweep.local import Local, shares
from flowbench.sweep.spec import Job, Spec, jobs


@dataclass(frozen=True)
class Machines:
    """Where runs are carried out: how many ``at_once``, the threads and bytes of each, the GPUs that are here.

    ``ray`` is the address of a cluster; None: on this machine.
    """

    at_once: int | None = None
    threads: int | None = None
    gpus: int = 0
    memory: int | None = None
    ray: str | None = None


def carry_out_sweep(
    spec: Spec, folder: Path, machines: Machines, again: bool = False, deadline: float | None = None
) -> list[State]:
    """Carry out all runs of a sweep, each in its own time; what became of each. Logs of those that ended well go.

    Raises:
        UsageError: there is no such cluster.
    """
    logs = folder / "logs"
    workers, wanted = _workers(spec, folder, machines, again)
    with Board(workers.free) as board:
        states = conduct(wanted, workers, board.show, deadline)
    for state in states:
        if state.stage in ("ok", "finished"):
            with suppress(OSError):
                (logs / f"{state.job.label}.log").unlink(missing_ok=True)
    with suppress(OSError):
        logs.rmdir()
    return states


def _workers(spec: Spec, folder: Path, machines: Machines, again: bool) -> tuple[Workers, list[Job]]:
    if machines.ray is not None:
        from flowbench.sweep.cluster import Cluster

        threads = machines.threads or 1
        cluster = Cluster(machines.ray, threads, machines.memory, spec.device, folder, again)
        return cluster, jobs(spec, threads)
    share = shares(len(jobs(spec)), machines.at_once, machines.threads, machines.gpus, machines.memory)
    wanted = jobs(spec, share.threads)
    note(f"{plural(len(wanted), 'run')}, {share.slots} at a time, {plural(share.threads, 'thread')} each")
    return Local(share, folder, folder / "logs", again), wanted
