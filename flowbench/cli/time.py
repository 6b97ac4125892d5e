"""``flowbench time``."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowbench.cli import complete
from flowbench.cli.options import SET_HELP, Device, Json, Out, use_threads
from flowbench.console import note, print_json, print_result
from flowbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from flowbench.config import FlowOptions
    from flowbench.results.costs import InverseName
    from flowbench.timing.benchmark import Plan

    Subject = tuple[dict[str, FlowOptions], Tensor, str]

_GATE = "Against another flowbench"


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
    batch: Annotated[
        str | None, typer.Option(help="The batch sizes.", show_default="1,100,1000; with --against 1000")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    inverse: Annotated[
        str,
        typer.Option(
            help="substitution, or beside it passes (the textbook's D) or jacobi (iterated over all columns at once, "
            "until nothing changes), or both: passes,jacobi."
        ),
    ] = "substitution",
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="The largest change, relative to 1 + |x|, at which jacobi ends.", show_default="1e-4"),
    ] = None,
    scaling: Annotated[
        bool,
        typer.Option("--scaling", help="Show how costs grow with D, from 64 to 1024, at a fixed width of 1024."),
    ] = False,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Time zuko, nflows, normflows and flowjax too, built alike and taken in turns."),
    ] = False,
    peers_best: Annotated[
        bool,
        typer.Option(
            "--peers-best",
            help="Beside them, those on torch with fused Adam and, where there is a compiler, torch.compile.",
        ),
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="The least time to spend on each figure.", show_default="1; with --against 2"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON",
            rich_help_panel=_GATE,
            help="The interpreter of an environment with another flowbench: is this one slower, or does it take more "
            "memory? Exit code 1 if so, 3 if it cannot be told.",
            show_default=False,
        ),
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(rich_help_panel=_GATE, min=1, help="A ratio of times that is tolerated.", show_default="1.10"),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(rich_help_panel=_GATE, min=1, help="A ratio of memory that is tolerated.", show_default="1.10"),
    ] = None,
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            rich_help_panel=_GATE,
            help="table, markdown, junit or json, to stdout, or with =FILE to a file. May be repeated.",
            show_default="table",
        ),
    ] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="The number of CPU threads.", show_default="torch's own choice; with --against 1"),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Time densities, samples and training steps.

    Prints medians with quartiles, how they compare with the bare arithmetic, and the memory used. With --against, the
    ratios to another flowbench on this machine, each with a verdict.
    """
    inverses = _inverses(inverse, tolerance)
    peers = peers or peers_best
    if data is not None and (dim is not None or scaling):
        raise UsageError("--data brings its own columns: leave --dim and --scaling out")
    if scaling and (dim is not None or peers or inverses):
        raise UsageError(
            "--scaling times flowbench's own directions at its own dimensions: leave the other options out"
        )
    if against is not None and (scaling or peers or inverses):
        raise UsageError("--against compares two flowbenches: leave --peers, --scaling and --inverse out")
    if against is None and (max_slowdown, max_memory, forms) != (None, None, None):
        raise UsageError("--max-slowdown, --max-memory and --format need another flowbench", "name one with --against")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # counting memory, it warns of blocks older than the count
    from flowbench.files import ensure_writable
    from flowbench.results import store as results
    from flowbench.timing import benchmark
    from flowbench.timing.works import Way
    from flowbench.training.environment import resolve_device
    from flowbench.training.memory import keep_freed_memory

    keep_freed_memory()
    use_threads(threads or (1 if against is not None else None))
    chosen_device = resolve_device(device)
    if data is None and dim is None and not scaling:
        data = "patches"
    sizes = {"hidden": hidden or ("1024" if scaling else None), "transforms": transforms}
    given = [f"{key}={value}" for key, value in sizes.items() if value is not None] + (settings or [])
    chosen = benchmark.choose(flow or ["maf", "iaf", "realnvp"], data, given, as_peers=peers)
    folder = results.results_dir(out)
    ensure_writable(folder)
    name, rows = benchmark.rows(data, dim or 2, chosen_device)
    subject = chosen, rows, name
    if against is None:
        ways = tuple(Way(*each) for each in inverses)
        plan = benchmark.Plan(
            _batches(batch or "1,100,1000"), 1.0 if seconds is None else seconds, ways, peers, peers_best, scaling
        )
        _show(subject, plan, folder, as_json)
    else:
        limits = max_slowdown or 1.10, max_memory or 1.10
        forms = [*(forms or []), *(["json"] if as_json else [])]
        _gate(subject, against, _batches(batch or "1000"), 2.0 if seconds is None else seconds, limits, forms, folder)


def _show(subject: Subject, plan: Plan, folder: Path, as_json: bool) -> None:
    """Time the flows and print the table."""
    from flowbench.progress import Working
    from flowbench.report import times
    from flowbench.results import costs
    from flowbench.timing import benchmark

    record = None
    try:
        with Working() as working:
            for record in benchmark.time_flows(*subject, replace(plan, on_run=working.on)):
                path = costs.write(record, folder)
    finally:  # after an interrupt too: what was found until then
        if record:
            if as_json and record.finished:
                print_json(record.model_dump(mode="json"))
            elif not as_json:
                print_result(times.tables(record))
                note(f"written to {path}")


def _gate(
    subject: Subject,
    python: str,
    batches: tuple[int, ...],
    seconds: float,
    limits: tuple[float, float],
    forms: list[str],
    folder: Path,
) -> None:
    """Hold this flowbench against another's; exits with the gate's code where it is not 0."""
    from flowbench.progress import Working
    from flowbench.report.gate import costs as gate
    from flowbench.report.gate import render
    from flowbench.report.gate.findings import exit_code
    from flowbench.report.outputs import outputs
    from flowbench.results import costs
    from flowbench.timing import against

    to = outputs(forms, render.FORMS)
    with Working() as working:
        plan = against.Plan(python, batches, seconds, limits[0], working.on, working.done)
        for record in against.compare(*subject, plan):
            path = costs.write(record, folder)
    if record.baseline.environment.code_digest == record.new.environment.code_digest:
        note(f"both sides are the same code: {record.baseline.package} and {record.new.package}")
    found = gate.findings(record, *limits)
    render.print_findings(found, to, gate.title(record))
    note(f"written to {path}")
    if code := exit_code(found):
        raise SystemExit(code)


def _inverses(text: str, tolerance: float | None) -> list[tuple[InverseName, float | None]]:
    """Those that are to be timed beside substitution, with the tolerance of those that have one."""
    from flowbench.results.costs import INVERSES

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ("substitution", *INVERSES):
            raise UsageError(f"unknown inverse {name!r}", hint=did_you_mean(name, ["substitution", *INVERSES]))
    if tolerance is not None and ("jacobi" not in names or not math.isfinite(tolerance)):
        raise UsageError("--tolerance is a number, and --inverse jacobi's alone")
    tolerances = {"jacobi": 1e-4 if tolerance is None else tolerance}
    return [(name, tolerances.get(name)) for name in INVERSES if name in names]


def _batches(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch takes sizes like 1,100,1000, not {text!r}")
    return sizes
