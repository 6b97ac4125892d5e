"""What memory a process holds and what the machine has left, as Linux tells it; elsewhere it is not known."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from rich.filesize import decimal

from flowbench.errors import ShortOfMemoryError

CGROUPS = Path("/sys/fs/cgroup")
PR_SET_PDEATHSIG, SIGKILL = 1, 9
"""From Linux's prctl.h."""


class _Mallinfo2(ctypes.Structure):
    """From glibc's malloc.h."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names.split())  # ctypes' own form


def available_bytes() -> int | None:
    """The memory that is free for programs to take, within what a container and limits grant; None where no one tells.

    What files have in memory and could be dropped is free.
    """
    system = _field(Path("/proc/meminfo"), "MemAvailable")
    return None if system is None else min([system, *_granted(), *_unlimited()])


def refuse_short_of_memory(what: str, n_bytes: int, hint: str) -> None:
    """See, before it is begun, that the memory that work needs is available, where that is known.

    Raises:
        ShortOfMemoryError: it is not.
    """
    available = available_bytes()
    if available is not None and n_bytes > available:
        raise ShortOfMemoryError(
            f"{what} takes {decimal(n_bytes)} of memory, and {decimal(available)} are available", hint
        )


def _granted() -> list[int]:
    """What is left below each limit of this process's control groups, of either version."""
    left = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            root = CGROUPS / controllers
            version = ("max", "current", "inactive_file")
            if controllers:
                version = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
            limit, usage, droppable = version
            path = root / group.lstrip("/")
            for folder in (path, *path.parents):
                with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
                    most, used = (int((folder / f"memory.{name}").read_text()) for name in (limit, usage))
                    left.append(max(0, most - used + _counted(folder / "memory.stat", droppable)))
                if folder == root:
                    break
    return left


def _counted(path: Path, name: str) -> int:
    """A count of a control group's; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0


def _unlimited() -> list[int]:
    """What is left below each limit that this process has by itself (``ulimit -d`` and ``-v``)."""
    left = []
    with contextlib.suppress(ImportError):
        import resource  # not everywhere

        for limit, name in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
            most, used = resource.getrlimit(limit)[0], _field(Path("/proc/self/status"), name)
            if most != resource.RLIM_INFINITY and used is not None:
                left.append(max(0, most - used))
    return left


def held_bytes() -> int | None:
    """The memory that this process holds."""
    return _field(Path("/proc/self/status"), "VmRSS")


def allocated_bytes() -> int | None:
    """The memory that this process has asked the C library for and not freed: exact, and torch's and numpy's too.

    None where the library does not tell: glibc does from 2.33 on.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):
        return None
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)  # in its arenas, and mapped alone


def give_back_freed() -> None:
    """Return to the system what was freed and the C library still keeps."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_bytes(work: Callable[[], object]) -> int | None:
    """The most memory that the system lent to a run of ``work``, which was run before; None where no one tells."""
    give_back_freed()
    before = held_bytes()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    except OSError:
        return None
    work()
    peak = _field(Path("/proc/self/status"), "VmHWM")
    return None if peak is None or before is None else max(0, peak - before)


def give_way(available: int | None) -> None:
    """Make this process the first that is killed when memory is short, and refuse it more than is ``available``.

    It also ends with the process that started it. Where the system knows none of this, nothing is done.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    if available is not None:
        limit_to(available)


def limit_to(available: int) -> None:
    """Refuse this process more memory than is ``available`` to it; where the system cannot, nothing is done."""
    used = _field(Path("/proc/self/status"), "VmData")
    if used is not None:
        import resource  # not everywhere

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = used + available
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _field(path: Path, name: str) -> int | None:
    """A field that the system gives in kB, in bytes."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
