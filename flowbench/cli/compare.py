"""``flowbench compare``."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from flowbench.cli.options import FolderOrOut, Json, OnlyData, OnlyFlow, Out
from flowbench.console import note
from flowbench.errors import NothingToCompareError, UsageError

Sort = Literal["validation", "test", "density", "sampling", "train", "name"]

_GATE = "Against a baseline"


def compare(
    folder: FolderOrOut = None,
    data: OnlyData = None,
    flow: OnlyFlow = None,
    sort: Annotated[
        Sort,
        typer.Option(
            help="What ranks. The best is chosen on validation rows, or on test rows where they rank. Posteriors and "
            "fits to targets are always ranked by validation."
        ),
    ] = "validation",
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Print the paired differences of all lines, with intervals.")
    ] = False,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Print what the validation rows had reached after 10, 30, 100 and 300 seconds."),
    ] = False,
    claims: Annotated[
        bool,
        typer.Option("--claims", help="Print what the papers claim of MAF, IAF and RealNVP, and whether it holds."),
    ] = False,
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="table, markdown, csv, latex or json, and with --against junit, to stdout, or with =FILE to a file. "
            "May be repeated.",
            show_default="table",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_GATE,
            help="A folder of earlier results: has any of them got worse? Exit code 1 if so, 3 if it cannot be told.",
            show_default=False,
        ),
    ] = None,
    max_nats: Annotated[
        float | None,
        typer.Option(rich_help_panel=_GATE, min=0, help="A loss that is tolerated, in nats.", show_default="0.02"),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            rich_help_panel=_GATE,
            help="Put the new runs, with the likelihoods of their rows, in the place of the baseline's, after showing "
            "what changes.",
        ),
    ] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Rank all runs by likelihood beside the published numbers, in one table for each dataset.

    With --against, compare them with those of another folder instead, run by run.
    """
    from flowbench.files import expanded
    from flowbench.results import store as results

    if folder is not None and out is not None:
        raise UsageError("the folder is given twice", hint="leave --out away")
    folder = results.results_dir(folder or out)
    forms = [*(forms or []), *(["json"] if as_json else [])]
    if max_nats is not None and not math.isfinite(max_nats):
        raise UsageError("--max-nats is a number of nats")
    if against is not None:
        if pairs or curve or claims or sort != "validation":
            raise UsageError("--pairs, --curve, --claims and --sort do not go with --against")
        return _gate(folder, expanded(against), data, flow, max_nats, forms, accept)
    if max_nats is not None or accept:
        raise UsageError("--max-nats and --accept need a baseline", hint="name one with --against")
    if pairs + curve + claims > 1:
        raise UsageError("--pairs, --curve and --claims are reports of their own: ask for one")
    if claims and (flow is not None or sort != "validation"):
        raise UsageError("--claims are about all three flows: leave --flow and --sort out")
    _report(folder, data, flow, sort, "pairs" if pairs else "curve" if curve else "claims" if claims else "", forms)


def _report(folder: Path, data: str | None, flow: str | None, sort: Sort, what: str, forms: list[str]) -> None:
    """Print a ranking, or ``what`` is asked for in its place."""
    from flowbench.report.claims import claims
    from flowbench.report.comparison import Wanted, compared, write_comparison
    from flowbench.report.outputs import outputs
    from flowbench.report.ranking.tables import tables
    from flowbench.report.ranking.write import FORMS, write_curves, write_pairs
    from flowbench.report.variational.tables import posteriors
    from flowbench.results import sweeps
    from flowbench.results.trainings import TRAINED, Others

    gc.disable()  # all that is made here lives till the end; to look for garbage in it took half the time
    to = outputs(forms, FORMS)
    others = Others(TRAINED | {"time"} if what == "claims" else TRAINED)
    runs, swept = sweeps.with_runs(folder, others.keep)
    passed_over = sweeps.passed_over(swept)
    if what == "claims":
        bounds = posteriors(others.posteriors, data)
        claims.write_claims(claims.claims(runs, others.times, data, passed_over, bounds), to)
    elif what and not runs and others.trained:
        said = f"--{what} is of runs by maximum likelihood, and {folder} has none"
        raise NothingToCompareError(said, f"without --{what} its posteriors and fits are compared")
    elif what:
        {"pairs": write_pairs, "curve": write_curves}[what](tables(runs, data, flow, sort, passed_over), to)
    else:
        write_comparison(compared(runs, others, Wanted(data, flow, sort, passed_over)), to)


def _gate(
    new: Path,
    baseline: Path,
    data: str | None,
    flow: str | None,
    max_nats: float | None,
    forms: list[str],
    accept: bool,
) -> None:
    """Hold new runs against a baseline's; exits with the gate's code where it is not 0."""
    from flowbench.report.gate import render
    from flowbench.report.gate.baseline import Comparison
    from flowbench.report.gate.findings import exit_code
    from flowbench.report.gate.likelihoods import MAX_NATS
    from flowbench.report.outputs import outputs

    to = outputs(forms, render.FORMS)
    comparison = Comparison(new, baseline, data, flow)
    found = comparison.findings(MAX_NATS if max_nats is None else max_nats)
    render.print_findings(found, to, comparison.title)
    code = exit_code(found)
    if accept:
        taken, left = comparison.accept()
        note(f"{baseline} now has the new runs of: {'; '.join(taken) or 'nothing'}")
        for finding in left:
            note(f"not accepted: {finding.what}: {'; '.join(finding.notes)}")
        code = exit_code(left) if left else 0 if taken else 3
    if code:
        raise SystemExit(code)
