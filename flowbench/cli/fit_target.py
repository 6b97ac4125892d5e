"""``flowbench fit-target``."""

from __future__ import annotations

from typing import Annotated

import typer

from flowbench.cli import complete
from flowbench.cli.options import (
    SETTINGS,
    CheckpointEvery,
    ConfigFile,
    Device,
    FewThreads,
    Force,
    Json,
    ListSettings,
    MaxSeconds,
    Out,
    SetSettings,
)
from flowbench.cli.showing import show


def fit_target(
    flow: Annotated[
        str,
        typer.Argument(
            help="What is fitted: a flow (iaf, maf, realnvp, nsf-ar, nsf-c, or a .py file of your own), or a Gaussian: "
            "diagonal or full-gaussian.",
            autocompletion=complete.posteriors,
        ),
    ],
    target: Annotated[
        str,
        typer.Option(help="The density: energy-1 to energy-4, funnel or logistic.", autocompletion=complete.targets),
    ] = "energy-1",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds weights and all draws of training.")] = 0,
    device: Device = "auto",
    threads: FewThreads = None,
    force: Force = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever there is of the run.")] = False,
    out: Out = None,
    as_json: Json = False,
    recipe: Annotated[
        str,
        typer.Option(rich_help_panel=SETTINGS, help="How to train: there is fast."),
    ] = "fast",
    max_seconds: MaxSeconds = None,
    settings: SetSettings = None,
    config: ConfigFile = None,
    list_settings: ListSettings = False,
    checkpoint_every: CheckpointEvery = None,
) -> None:
    """Fit a flow to a density known up to a constant, by reverse KL; show how near it came, by what is known of it.

    The same command goes on with a run that was broken off.
    """
    if list_settings:
        from flowbench.cli.settings import show_target_settings

        return show_target_settings(flow, target, recipe, as_json)
    from flowbench.config import user_layers
    from flowbench.files import ensure_writable
    from flowbench.report.variational.summary import target_summary
    from flowbench.results.store import results_dir
    from flowbench.training.carry_out import carry_out_by
    from flowbench.training.order import How
    from flowbench.variational.target_order import TargetOrder
    from flowbench.variational.target_run import TargetCourse

    folder = results_dir(out)
    ensure_writable(folder)  # before anything takes time
    own = {} if max_seconds is None else {"max_seconds": max_seconds}
    order = TargetOrder(
        flow=flow,
        data=target,
        recipe=recipe,
        seed=seed,
        device=device,
        threads=threads,
        settings=user_layers(config, settings or []) | own,
    )
    how = How(force=force, restart=restart, checkpoint_every=checkpoint_every)
    show(carry_out_by(TargetCourse, order, folder, how), target_summary, as_json)
