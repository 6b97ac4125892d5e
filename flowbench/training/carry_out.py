"""An order carried out: found finished, gone on with where it was broken off, or begun."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from flowbench.config import RunConfig
from flowbench.console import note, plural, warn
from flowbench.data import Dataset
from flowbench.errors import DataError, UsageError, did_you_mean
from flowbench.progress import Progress
from flowbench.results.record import RunRecord, Trained
from flowbench.results.store import finished_as, refuse_newer
from flowbench.training import unfinished
from flowbench.training.course import Course, Keeping, run_name
from flowbench.training.environment import environment
from flowbench.training.holding import HeldError, held
from flowbench.training.memory import keep_freed_memory
from flowbench.training.order import How, Order
from flowbench.training.run import DensityRun
from flowbench.training.sealed import first
from flowbench.training.unfinished import About, Unfinished

R = TypeVar("R", bound=Trained)


def carry_out(
    order: Order,
    folder: Path,
    how: How,
    progress: Callable[[float | None], Progress] = Progress,
    on_found: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """The record of a training by maximum likelihood; see `carry_out_by`."""
    return carry_out_by(DensityRun, order, folder, how, progress, on_found)


def carry_out_by(
    course: type[Course[R]],
    order: Order,
    folder: Path,
    how: How,
    progress: Callable[[float | None], Progress] = Progress,
    on_found: Callable[[R], None] = lambda record: None,
) -> R:
    """The record of what was ordered: of an earlier run that finished (then ``on_found``), or of one that is done now.

    Raises:
        HeldError: it is being trained by another process.
        UsageError: it was broken off elsewhere, and neither ``force`` nor ``restart`` says what to do.
    """
    order = order.wherever()
    config, dataset = _resolved(order)
    keep_freed_memory()  # of training: what a large table needed while it was converted is given back
    if dataset.dim == 1 and not dataset.given and dataset.discrete is None:
        warn("with one column there is nothing to condition on: every affine flow is a Gaussian")
    name = run_name(config, dataset)
    with held(folder, name):
        refuse_newer(folder / f"{name}.json")
        record = None if how.force or how.restart else finished_as(course.kind, folder, name)
        if record is not None:
            note(f"{name} is already finished ({folder / name}.json); --force trains it again")
            on_found(record)
            return record
        keeping = _keeping(order, config, dataset, folder, how)
        with (
            progress(config.training.max_seconds) as shown,
            closing(course(config, dataset, folder, shown, keeping)) as it,
        ):
            record = it.carried_out()
        _forget(config.kin(dataset.fingerprint), folder)
    note(f"written to {folder / record.run}.json")
    return record


def name_of(order: Order) -> str:
    """The name of the run that an order leads to, here."""
    return run_name(*_resolved(order))


def _resolved(order: Order) -> tuple[RunConfig, Dataset]:
    config, dataset = order.config(), order.dataset()
    # a table is what it holds, wherever it lies
    return config.model_copy(update={"data": dataset.card.name if dataset.card else dataset.name}), dataset


def _keeping(order: Order, config: RunConfig, dataset: Dataset, folder: Path, how: How) -> Keeping:
    kept = Unfinished(folder, run_name(config, dataset))
    if how.restart:
        kept.remove()
        _forget(config.kin(dataset.fingerprint), folder)
        return Keeping(order, kept, how.checkpoint_every)
    start = kept.newest()
    other = None if start else _elsewhere(kept, config, dataset, folder)
    if other is not None:
        start = Unfinished(other.parent.parent, other.name).newest()
    if start is None:
        if how.run:
            why = f"{how.run} cannot be gone on with: its data, or what sets it apart, is not what it was"
            raise UsageError(why, "`flowbench train` without --resume or --finish begins anew")
        if how.finish:
            raise UsageError(f"{kept.run} was not broken off: there is nothing to finish")
        return Keeping(order, kept, how.checkpoint_every)
    if start.about.rows_sha256 != dataset.rows_sha256:
        raise DataError(f"{kept.run} was broken off on other rows", "--restart trains it on these")
    changed = differences(start.about, config)
    epochs = len(start.numbers["epochs"])
    if changed and not how.force:
        raise UsageError(
            f"{kept.run} was broken off after {plural(epochs, 'epoch')}, where something was different: "
            + "; ".join(changed),
            "--force goes on all the same, --restart begins anew",
        )
    if other is not None:  # not before: what is refused changes nothing
        with held(other.parent.parent, other.name):
            kept.adopt(other)
        start = kept.newest() or start
    note(f"going on with {kept.run} after {plural(epochs, 'epoch')}" + "".join(f"; {each}" for each in changed))
    since = tuple(f"{each}, from epoch {epochs + 1} on" for each in changed)
    return Keeping(order, kept, how.checkpoint_every, start, start.about.changed + since, how.finish)


def _elsewhere(kept: Unfinished, config: RunConfig, dataset: Dataset, folder: Path) -> Path | None:
    """The checkpoints of the same training elsewhere, by other threads or another version, if there are."""
    there = unfinished.abouts(folder, config.kin(dataset.fingerprint))
    for place in sorted(there, key=lambda place: there[place].seconds, reverse=True):
        if place.name != kept.run:
            with suppress(HeldError), held(place.parent.parent, place.name):  # else it is not broken off
                return place
    return None


def _forget(kin: str, folder: Path) -> None:
    """Remove what else is kept of the same training, elsewhere or by another version, unless a process is at it."""
    for place in unfinished.abouts(folder, kin):
        with suppress(HeldError), held(place.parent.parent, place.name):
            Unfinished(place.parent.parent, place.name).remove()


def differences(before: About, now: RunConfig) -> list[str]:
    """What is different from when a run was broken off, beside its data and its settings."""
    old, new = before.environment, environment(now.device, now.threads)
    pairs = {name: (getattr(old, name), getattr(new, name)) for name in ("device", "device_name", "threads")}
    pairs |= {name: (old.versions.get(name), new.versions.get(name)) for name in {**old.versions, **new.versions}}
    found = [f"{name} {a} before, {b} now" for name, (a, b) in pairs.items() if a != b]
    found += ["another revision of flowbench"] if old.code_digest != new.code_digest else []
    found += ["another version of the flow's file"] if before.config.get("code") != now.code else []
    return found


def order_of(run: str, folder: Path) -> Order:
    """What leads to a run that was broken off, by its name; it asks for the device and the threads that it had.

    Raises:
        UsageError: there is no checkpoint of such a run, or it is one that another command goes on with.
        DataError: it has no order that can be carried out.
    """
    found = unfinished.abouts(folder)
    # one that was taken over lies in a folder of its new name until the next is written
    known = {place.name: about for place, about in found.items()} | {about.run: about for about in found.values()}
    name = Path(run).name.removesuffix(".json")
    if name not in known:
        there = f"{did_you_mean(name, known)}" if known else "none was broken off there"
        raise UsageError(f"{folder} has no checkpoint of a run {name!r}", there)
    about = known[name]
    command = about.goes_on_by[:2]
    if command and command != ("flowbench", "train"):
        hint = shlex.join([*about.goes_on_by, "--out", str(folder)])
        raise UsageError(f"{name} is no run of `flowbench train`: `{shlex.join(command)}` goes on with it", hint)
    had = {"device": about.environment.device, "threads": about.environment.threads}
    try:
        return Order.model_validate(about.order | had)
    except ValidationError as error:
        hint = "train it again, as it was ordered"
        raise DataError(f"{name} was broken off, and its order cannot be read: {first(error)}", hint) from error
