"""The runs of a sweep on a Ray cluster: each a task, whose files are sent back to the folder of results here."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flowbench.errors import UsageError
from flowbench.results.refuge import write_anywhere
from flowbench.results.store import finished, read, read_sketch, read_test_lls
from flowbench.sweep.conduct import Event, Lost
from flowbench.sweep.spec import Job
from flowbench.sweep.work import Begun, Done, Told, work_away
from flowbench.training.order import How

TELL_SECONDS = 0.5
"""Between two messages of a run's progress, at the least."""


class Cluster:
    """Workers on the nodes of a cluster, which need not share a folder; Ray alone says which node takes a run.

    A run asks for its threads as CPUs, for a GPU where it is to be trained on one, and for its memory. When its node
    dies, it is lost, and begun anew on another.

    Args:
        address: of the cluster; ``auto``: the one that runs here.
        threads: of each run.
        memory: bytes that each run may take; None: Ray is not asked for any.
        device: that the runs ask for; with ``auto``, a GPU where the cluster has one.
        folder: where the results go.
        how: as of `carry_out`.

    Raises:
        UsageError: ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, threads: int, memory: int | None, device: str, folder: Path, how: How) -> None:
        try:
            import ray
            from ray.util.queue import Queue
        except ImportError as error:
            raise UsageError("ray is not installed", "pip install 'flowbench[ray]'") from error
        _refuse_silence(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"there is no Ray cluster at {address}: {error}") from error
        self._ray, self._folder, self._how, self._threads = ray, folder, how, threads
        there = () if how.force or how.restart else sorted(path.stem for path in folder.glob("[!.]*.json"))
        self._known = frozenset(name for name in there if finished(folder, name))
        self._rows: dict[str, dict[str, str]] = {}
        gpus = ray.cluster_resources().get("GPU", 0) if device == "auto" else float(device.startswith("cuda"))
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})  # it outlives other nodes
        needs: dict[str, Any] = {"num_cpus": threads, "num_gpus": 1 if gpus else 0}
        if memory is not None:
            needs["memory"] = memory
        # what is lost is begun anew by whoever conducts the sweep, who counts it
        self._task = ray.remote(max_retries=0, **needs)(_task)
        self._under_way: dict[Any, Job] = {}

    @property
    def free(self) -> int:
        """As many as are wanted: Ray keeps those that have to wait."""
        return 1_000_000

    @property
    def slots(self) -> int:
        """Runs at a time, by the processors that there are now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1) // self._threads))

    def start(self, job: Job, retried: bool = False) -> None:
        """Hand a run to Ray, which begins it anew."""
        self._under_way[self._task.remote(job, self._known, self._queue, self._how)] = job

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        """What has happened, after so many seconds at the most."""
        if not self._under_way:
            time.sleep(seconds)
            return
        ended, _ = self._ray.wait(list(self._under_way), timeout=seconds)
        by_number = {job.number: job for job in self._under_way.values()}
        for number, told in self._queue.get_nowait_batch(self._queue.qsize()):
            if number in by_number:
                yield by_number[number], told
        for each in ended:
            yield self._under_way.pop(each), self._ended(each)

    def _ended(self, reference: Any) -> Event:
        try:
            done: Done = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Done("failed", error=str(error.cause))
        except self._ray.exceptions.RayError as error:
            return Lost(type(error).__name__)
        return self._landed(done) if done.ending != "finished" else done

    def _landed(self, done: Done) -> Done:
        """Put what was sent where it belongs; nodes with other rows under one name are found out."""
        if done.run is None:
            return done
        with TemporaryDirectory() as place:
            for name, content in done.contents.items():
                (Path(place) / name).write_bytes(content)
            record = read(Path(place) / f"{done.run}.json")
            lls, weights = read_test_lls(record, Path(place)), done.contents.get(record.files.weights or "")
            sketch = read_sketch(record, Path(place))
        rows = self._rows.setdefault(record.task.data, record.task.rows_sha256)
        if rows != record.task.rows_sha256:
            return Done("failed", error=f"{record.task.data} has other rows on its node than on another")
        try:
            path = write_anywhere(record, self._folder, lls, weights, sketch)
        except UsageError as error:
            return Done("failed", error=str(error))
        return Done(done.ending, path.stem, done.error)

    def stop(self) -> None:
        """Cancel what is under way: nodes keep nothing of it."""
        for reference in self._under_way:
            self._ray.cancel(reference, force=True)
        self._under_way = {}

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._queue.shutdown()
        self._ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Whoever does not answer is asked once here: Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return  # a name that Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UsageError(f"there is no Ray cluster at {address}: {error.strerror or error}") from error


def _task(job: Job, known: frozenset[str], queue: Any, how: How) -> Done:
    """In a process on some node."""
    last = 0.0

    def tell(told: Begun | Told) -> None:
        nonlocal last
        if isinstance(told, Begun) or told.epoch == told.of or time.monotonic() - last > TELL_SECONDS:
            last = time.monotonic()
            queue.put_nowait((job.number, told))

    return work_away(job, known, tell, how)
