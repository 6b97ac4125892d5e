"""A trained density in its columns' own units: a flow, and the standardisation that its rows went through."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from flowbench.console import warn
from flowbench.errors import DataError, DivergedError, UsageError, did_you_mean
from flowbench.flows import Flow
from flowbench.results import store
from flowbench.results.store import UnreadableRecordError
from flowbench.training import checkpoint
from flowbench.training.evaluate import ROWS, log_likelihoods

Float64 = NDArray[np.float64]

NAMED = 10
"""Runs that a message names."""


@dataclass(frozen=True, eq=False)
class Trained:
    """p(x) = p_flow((x − location)/scale)·Π 1/scale, for rows x (N, D) in the units of ``location`` and ``scale`` (D,).

    ``columns`` are the names of the D columns, None where they have none. ``own_units`` is false where the flow was
    trained on rows as they came from a known dataset's recipe: then x lies in that dataset's ``space``. ``steps`` (D,)
    are the widths of the uniform noise that was added to columns of discrete values before they were learnt, 0 for the
    others.
    """

    flow: Flow
    location: Float64
    scale: Float64
    columns: tuple[str, ...] | None = None
    own_units: bool = True
    space: str = "raw"
    steps: Float64 | float = 0.0

    def log_prob(self, rows: Float64) -> Float64:
        """Log-density (N,) in nats of each of ``rows`` (N, D); of a discrete value, in the middle of its step.

        Rows so far out that the flow's single precision overflows are taken in double; NaN or −∞ is left only where
        that overflows too.
        """
        # before it is rounded: a small spread may lie far from zero
        with np.errstate(over="ignore"):  # it comes out as a density that is not finite
            standardised = (rows - self.location + np.multiply(self.steps, 0.5)) / self.scale
        lls = _log_prob(self.flow, standardised)
        far = ~np.isfinite(lls)
        if far.any():
            lls[far] = _log_prob(self._precise, standardised[far])
        return np.asarray(lls - np.log(self.scale).sum())

    def samples(self, n: int, generator: Generator) -> Iterator[Float64]:
        """N draws, some (k, D) at a time; ``generator`` is of the flow's device. Steps are not rounded to.

        Noise is drawn for as many rows whatever ``n`` is: fewer draws are the first of more, but for rounding.

        Raises:
            DivergedError: a draw is not finite. None is left out or drawn again: that would be another density.
        """
        for done in range(0, n, ROWS):
            noise = self.flow.base.sample(ROWS, generator)[: n - done]
            with torch.no_grad():
                drawn, _ = self.flow.transform.inverse(noise)
            rows = drawn.cpu().double().numpy() * self.scale + self.location
            lost = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(lost):
                raise DivergedError(
                    f"sample {done + int(lost[0]) + 1} of {n} is not finite: the flow overflows there",
                    hint="training with a log_scale_bound, or for longer, keeps a flow finite; or take another seed",
                )
            yield rows

    @cached_property
    def _precise(self) -> Flow:
        return copy.deepcopy(self.flow).cpu().double()


def _log_prob(flow: Flow, standardised: Float64) -> Float64:
    origin = flow.base.origin
    return log_likelihoods(flow, torch.from_numpy(standardised).to(origin.device, origin.dtype))


def load(path: Path, device: str = "cpu") -> Trained:
    """What a run left in its checkpoint, on ``device``; with a warning if the run did not end well.

    Raises:
        DataError: not a checkpoint of flowbench's, damaged, or of a flow without a run.
    """
    flow, about = checkpoint.load(path)
    own_units = about.get("location") is not None
    try:
        location = np.array(about["location"] if own_units else [0.0] * flow.dim, np.float64)
        scale = np.array(about["scale"] if own_units else [1.0] * flow.dim, np.float64)
        columns = None if about["columns"] is None else tuple(str(name) for name in about["columns"])
        steps = np.array([about["dequantised"].get(name, 0.0) for name in columns or [""] * flow.dim], np.float64)
        space, status = str(about["space"]), about["status"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} does not say what it was trained on: {error}",
            "an older flowbench may have written it: train again",
        ) from error
    fits = location.shape == scale.shape == (flow.dim,) and (columns is None or len(columns) == flow.dim)
    if not (fits and np.isfinite(location).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise DataError(f"{path} is damaged: its standardisation is not that of {flow.dim} columns", "train it again")
    if status != "ok":
        warn(f"the run of {path} {'was ' if status == 'interrupted' else ''}{status}: these are the weights it had")
    return Trained(flow.to(device), location, scale, columns, own_units, space, steps)


def find(run: str, folder: Path) -> Path:
    """The checkpoint of a run: ``run`` is its name in the folder of results, or a path to its .safetensors.

    Raises:
        UsageError: there is no run of that name.
        DataError: there is no file at that path.
    """
    path = Path(run).expanduser()
    if path.suffix == ".json":
        path = _weights(path) or path.with_suffix(".safetensors")
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        if not path.is_file():
            raise DataError(f"there is no file {path}", "give a run's name, or a path to its .safetensors")
        return path
    path = folder / f"{run}.json"
    weights = _weights(path)
    if weights is None:
        there = [other.stem for other in sorted(folder.glob("*.json")) if _weights(other)]
        alike = [name for name in there if name.startswith(run)] or there
        known = did_you_mean(run, alike[:NAMED]) if there else "it has none: `flowbench train` makes one"
        raise UsageError(f"{folder} has no trained run {run!r}", f"{known}; or give a path to its .safetensors file")
    return weights


def _weights(path: Path) -> Path | None:
    """The checkpoint of the record in ``path``, if it has one."""
    with contextlib.suppress(UnreadableRecordError):
        return store.weights(path)
    return None
