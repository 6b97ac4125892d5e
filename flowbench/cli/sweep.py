"""``flowbench sweep``."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbench.cli import complete
from flowbench.cli.options import (
    CHECKPOINT_EVERY,
    SET_HELP,
    TEST_DATA,
    VALIDATION_DATA,
    Device,
    Json,
    NoSketch,
    Out,
    TensorBoard,
    csv_names,
)
from flowbench.console import note, plural, print_json, print_result
from flowbench.errors import FlowbenchError, UsageError

if TYPE_CHECKING:
    from flowbench.results.record import RunRecord
    from flowbench.sweep.conduct import State
    from flowbench.sweep.spec import Job

_MACHINES = "Machines"


def sweep(
    flows: Annotated[
        list[str],
        typer.Argument(
            help="Flows, or one .toml file that says what to sweep over (a path, or papers.toml).",
            show_default=False,
            autocompletion=complete.flows,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Datasets or tables, with commas between.", show_default="patches"),
    ] = None,
    test_data: Annotated[str | None, typer.Option(**TEST_DATA)] = None,
    validation_data: Annotated[str | None, typer.Option(**VALIDATION_DATA)] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from --seed on.", show_default="1")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The first seed.", show_default="0")] = None,
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Seeds the split of a table of your own.", show_default="0")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,VALUE",
            help="Vary a setting, e.g. transforms=5,10 or hidden=[64,64],[128,128]. May be repeated: every combination "
            "is trained.",
        ),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.", show_default=False)] = None,
    recipe: Annotated[
        str | None, typer.Option(help="How to train.", autocompletion=complete.recipes, show_default="fast")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=0, help="The largest number of epochs.", show_default="the recipe's")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="End each run so many seconds after its first step.", show_default=False)
    ] = None,
    pick: Annotated[
        bool | None,
        typer.Option(
            "--pick",
            help="Choose, for each flow and dataset, the grid's best configuration by validation; `compare` marks the "
            "others as not chosen.",
        ),
    ] = None,
    allow_partial: Annotated[
        bool | None, typer.Option("--allow-partial", help="Accept raw files with fewer rows than the published data.")
    ] = None,
    no_sketch: NoSketch = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train finished runs again, and go on with what was broken off elsewhere.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin every run anew, whatever there is of it.")] = False,
    checkpoint_every: Annotated[float | None, typer.Option(**CHECKPOINT_EVERY)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, and train none.")] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(min=0.0, help="Stop after so many hours; the same command goes on.", show_default=False),
    ] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=_MACHINES, help="CPU threads of each run.", show_default="its part of the machine"
        ),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            rich_help_panel=_MACHINES,
            help="Runs at a time.",
            show_default="one a GPU, else one a processor",
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            rich_help_panel=_MACHINES,
            help="The memory that a run may take, in GB.",
            show_default="its part of what is free",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=_MACHINES,
            help="Send the runs to a Ray cluster: its address, or auto.",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
    as_json: Json = False,
    tensorboard: TensorBoard = False,
) -> None:
    """Train many flows: every flow on every dataset, with every setting of a grid and every seed.

    Runs are carried out side by side, and each is written as it ends. What
    fails does not stop the others. Started again, a sweep does what is
    missing and goes on with what was broken off.
    """
    from flowbench.config import user_layers
    from flowbench.files import ensure_writable
    from flowbench.results.store import results_dir
    from flowbench.sweep import spec as specs

    options = {"max_epochs": max_epochs, "max_seconds": max_seconds}
    given: dict[str, Any] = {
        "data": csv_names(data) if data else None,
        "test_data": test_data,
        "validation_data": validation_data,
        "seeds": seeds,
        "seed": seed,
        "split_seed": split_seed,
        "grid": specs.grid(grid) if grid else None,
        "recipe": recipe,
        "pick": pick,
        "sketch": False if no_sketch else None,
        "allow_partial": allow_partial,
        "device": None if device == "auto" else device,
    }
    given = {key: value for key, value in given.items() if value is not None}
    by_file = flows[0].endswith(".toml")
    fields: dict[str, Any] = _file(flows[0]) if by_file else {"flows": flows}
    if by_file and len(flows) > 1:
        raise UsageError("a file says which flows: none can be named beside it")
    own = user_layers(config, settings or []) | {key: value for key, value in options.items() if value is not None}
    spec = specs.checked(fields | given | ({"settings": fields.get("settings", {}) | own} if own else {}))
    if ray and tensorboard:
        raise UsageError("--tensorboard has no curves of runs on a cluster: its nodes send records, weights and rows")
    folder = results_dir(out)
    ensure_writable(folder)
    # not of the sweep itself, whose name is that of the runs that it asks for
    jobs = [job.with_curves() if tensorboard else job for job in specs.jobs(spec)]
    # on a cluster its nodes have the devices
    refuse_what_cannot_train([job.anywhere() for job in jobs] if ray else jobs)
    if dry_run:
        return _list(jobs, as_json)
    began, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    deadline = None if max_hours is None else began + 3600 * max_hours
    bound = None if memory is None else int(memory * 1e9)
    from flowbench.sweep.run import Machines, carry_out_all
    from flowbench.training.order import How

    how = How(force, restart, checkpoint_every=checkpoint_every)
    states = carry_out_all(
        jobs, folder, Machines(at_once, threads, () if ray else gpus(spec.device), bound, ray), how, deadline
    )
    records = records_of(states, folder)
    if spec.pick:
        from flowbench.sweep.choice import record_sweep

        chosen = record_sweep(spec, states, list(records.values()), folder, started_at)
        note(f"chosen by validation: {', '.join(chosen) or 'nothing, since not all runs have ended, or none well'}")
    _print(records, folder, as_json)
    end_sweep(states, folder, time.monotonic() - began)


def _file(name: str) -> dict[str, Any]:
    from flowbench.config import read_toml, shipped
    from flowbench.files import expanded

    path = expanded(name)
    there = shipped("configs") / f"sweep-{path.name}"
    return read_toml(path if path.exists() or len(path.parts) > 1 or not there.is_file() else there)


def refuse_what_cannot_train(jobs: list[Job]) -> None:
    """Look for it before anything is trained.

    Raises:
        UsageError: no such flow, dataset, recipe, device or setting.
    """
    from flowbench.data import registry
    from flowbench.data.loading import refuse_held_out
    from flowbench.data.tables.loading import is_path

    for job in jobs:
        if job.order.seed == jobs[0].order.seed:
            config = job.order.config()
            if not is_path(job.order.data):
                registry.card(config.data)
                refuse_held_out(job.order.data, job.order.test_data, job.order.validation_data)


def gpus(device: str) -> tuple[str, ...]:
    """The GPUs that a device stands for, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    kind, _, index = device.partition(":")
    count = torch.cuda.device_count() if kind in ("auto", "cuda") else 0
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name][:count]
    names = names or [str(i) for i in range(count)]
    return tuple(names[int(index) : int(index) + 1] if index else names)


def _list(jobs: list[Job], as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        print_json({"runs": [job.order.model_dump(mode="json") for job in jobs]})
        return
    table = Table(title=plural(len(jobs), "run"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("flow", "data", "settings", "seed"):
        table.add_column(name)
    for job in jobs:
        table.add_row(job.order.flow, job.order.data, job.settings, str(job.order.seed))
    print_result(table)


def records_of(states: list[State], folder: Path) -> dict[Path, RunRecord]:
    """The records of the runs that have one."""
    from flowbench.results.store import read

    found = {}
    for state in states:
        with suppress(FlowbenchError):  # gone since, or in a refuge
            if state.run:
                path = folder / f"{state.run}.json"
                found[path] = read(path)
    return found


def _print(records: dict[Path, RunRecord], folder: Path, as_json: bool) -> None:
    """Print the runs' records, as one JSON document or ranked."""
    from flowbench.report.comparison import Comparison, write_comparison
    from flowbench.report.outputs import outputs
    from flowbench.report.ranking.tables import tables
    from flowbench.report.ranking.write import FORMS
    from flowbench.results.sweeps import passed_over, read_all

    if as_json:
        print_json({"runs": [record.model_dump(mode="json") for record in records.values()]})
    elif any(record.status == "ok" for record in records.values()):
        found = tables(records, passed_over=passed_over(read_all(folder)))
        write_comparison(Comparison(found), outputs([], FORMS))


def end_sweep(states: list[State], folder: Path, seconds: float) -> None:
    """Say what came of the runs; exits with 1 where one ended badly, with 3 where some are missing."""
    bad = [state for state in states if state.stage in ("failed", "diverged")]
    missing = [state for state in states if not state.ended or state.stage == "interrupted"]
    for state in bad:
        note(f"{state.job.label} {state.stage}: {state.error} ({folder / 'logs' / state.job.log})")
    done = len(states) - len(bad) - len(missing)
    more = "; the same command does what is missing" if missing else ""
    retried = sum(state.retried > 0 for state in states)
    again = f", {retried} of them retried" if retried else ""
    note(f"{done} of {plural(len(states), 'run')} done in {seconds:.0f} s{again}, {len(bad)} ended badly{more}")
    if bad or missing:
        raise SystemExit(1 if bad else 3)
