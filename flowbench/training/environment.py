"""Where a run takes place: its device, and what a record says of machine and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path

import torch

from flowbench.errors import UsageError, did_you_mean
from flowbench.results.record import Environment
from flowbench.revision import code_digest, git_revision


def resolve_device(name: str) -> str:
    """``auto`` as the GPU there is or the CPU; anything else as it is, if it is there.

    A GPU that is named becomes the current one: what is launched without a word goes there, and is waited for there.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UsageError(f"unknown device {name!r}", hint=did_you_mean(name, ["auto", "cpu", "cuda", "cuda:0", "mps"]))
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        raise UsageError(f"this machine has no device {name!r}", hint="--device auto takes a GPU where there is one")
    if kind == "cuda":
        torch.cuda.set_device(int(index or 0))
    return name


def environment(device: str, threads: int, also: Iterable[str] = ()) -> Environment:
    """What a row says of where it was measured; ``also`` names packages beside flowbench's own."""
    versions = {"python": platform.python_version()}
    for package in ("flowbench", "torch", "numpy", "numba", "scikit-learn", *also):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return Environment(
        device=device,
        device_name=torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        threads=threads,
        dtype=str(torch.get_default_dtype()).removeprefix("torch."),
        versions=versions,
        git_revision=git_revision(),
        code_digest=code_digest(),
        platform=f"{platform.system()} {platform.machine()}",
    )


def _processor() -> str:
    """The processor's model; Python's ``platform`` knows the architecture only, on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
