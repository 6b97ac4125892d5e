"""``flowbench time``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flowbench.cli import complete
from flowbench.cli.options import SET_HELP, Device, Json, Out, Threads, use_threads
from flowbench.console import note, print_json, print_result
from flowbench.errors import UsageError, did_you_mean


def time(
    flow: Annotated[
        list[str] | None,
        typer.Argument(help="The flows to time.", show_default="maf iaf realnvp", autocompletion=complete.flows),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Time on the rows of this dataset, with its sizes.",
            show_default="patches",
            autocompletion=complete.datasets,
        ),
    ] = None,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Time on random rows of this many columns instead.", show_default=False)
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="The widths of the hidden layers, e.g. 512,512.", show_default="the data's")
    ] = None,
    transforms: Annotated[int | None, typer.Option(help="The number of transforms.", show_default="the data's")] = None,
    batch: Annotated[str, typer.Option(help="The batch sizes.")] = "1,100,1000",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    inverse: Annotated[
        str,
        typer.Option(help="substitution, or passes to time the D passes of the textbook beside it."),
    ] = "substitution",
    scaling: Annotated[
        bool,
        typer.Option("--scaling", help="Show how costs grow with D, from 64 to 1024, at a fixed width of 1024."),
    ] = False,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Time zuko, nflows, normflows and flowjax too, built alike and taken in turns."),
    ] = False,
    seconds: Annotated[float, typer.Option(min=0, help="The least time to spend on each figure.")] = 1.0,
    device: Device = "auto",
    threads: Threads = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time densities, samples and training steps.

    Prints medians with quartiles, how they compare with the bare arithmetic, and the memory used.
    """
    if inverse not in ("substitution", "passes"):
        raise UsageError(f"unknown inverse {inverse!r}", hint=did_you_mean(inverse, ["substitution", "passes"]))
    if data is not None and (dim is not None or scaling):
        raise UsageError("--data brings its own columns: leave --dim and --scaling out")
    if scaling and (dim is not None or peers or inverse == "passes"):
        raise UsageError(
            "--scaling times flowbench's own directions at its own dimensions: leave the other options out"
        )
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # counting memory, it warns of blocks older than the count
    from flowbench.console import Working
    from flowbench.files import ensure_writable
    from flowbench.report import times
    from flowbench.results import costs
    from flowbench.results import store as results
    from flowbench.timing import benchmark
    from flowbench.training.environment import resolve_device
    from flowbench.training.memory import keep_freed_memory

    keep_freed_memory()
    use_threads(threads)
    chosen_device = resolve_device(device)
    if data is None and dim is None and not scaling:
        data = "patches"
    sizes = {"hidden": hidden or ("1024" if scaling else None), "transforms": transforms}
    given = [f"{key}={value}" for key, value in sizes.items() if value is not None] + (settings or [])
    chosen = benchmark.choose(flow or ["maf", "iaf", "realnvp"], data, given, as_peers=peers)
    folder = results.results_dir(out)
    ensure_writable(folder)
    name, rows = benchmark.rows(data, dim or 2, chosen_device)
    record = None
    try:
        with Working() as working:
            plan = benchmark.Plan(_batches(batch), seconds, inverse == "passes", peers, scaling, working.on)
            for record in benchmark.time_flows(chosen, rows, name, plan):
                path = costs.write(record, folder)
    finally:  # after an interrupt too: what was found until then
        if record:
            if as_json and record.finished:
                print_json(record.model_dump(mode="json"))
            elif not as_json:
                print_result(times.tables(record))
                note(f"written to {path}")


def _batches(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch takes sizes like 1,100,1000, not {text!r}")
    return sizes
