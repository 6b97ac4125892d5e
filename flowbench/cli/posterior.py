"""``flowbench posterior``."""

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


def posterior(
    flow: Annotated[
        str,
        typer.Argument(
            help="The posterior: diagonal or full-gaussian, or a flow: iaf, maf, realnvp, nsf-ar, nsf-c, or a .py file "
            "of your own.",
            autocompletion=complete.posteriors,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(help="Pictures whose pixels are drawn as 0 or 1, digits or mnist, or truth-linear."),
    ] = "digits",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds weights, batches and all that is drawn.")] = 0,
    device: Device = "auto",
    threads: FewThreads = None,
    force: Force = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever there is of the run.")] = False,
    out: Out = None,
    as_json: Json = False,
    recipe: Annotated[
        str,
        typer.Option(rich_help_panel=SETTINGS, help="How to train: fast, or paper for the IAF paper (2016)."),
    ] = "fast",
    max_epochs: Annotated[
        int | None,
        typer.Option(min=0, rich_help_panel=SETTINGS, help="Epochs at the most.", show_default="the recipe's"),
    ] = None,
    max_seconds: MaxSeconds = None,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=SETTINGS,
            help="Draws from the posterior of each test row, of which log p(x) is estimated.",
            show_default="128",
        ),
    ] = None,
    settings: SetSettings = None,
    config: ConfigFile = None,
    list_settings: ListSettings = False,
    checkpoint_every: CheckpointEvery = None,
) -> None:
    """Train a variational autoencoder whose posterior is a flow; show its bound, and log p(x) by importance sampling.

    The same command goes on with a run that was broken off.
    """
    if list_settings:
        from flowbench.cli.settings import show_posterior_settings

        return show_posterior_settings(flow, data, recipe, as_json)
    from flowbench.config import user_layers
    from flowbench.files import ensure_writable
    from flowbench.report.variational.summary import posterior_summary
    from flowbench.results.store import results_dir
    from flowbench.training.carry_out import carry_out_by
    from flowbench.training.order import How
    from flowbench.variational.order import PosteriorOrder
    from flowbench.variational.run import PosteriorCourse

    folder = results_dir(out)
    ensure_writable(folder)  # before anything takes time
    own = {"max_epochs": max_epochs, "max_seconds": max_seconds, "importance_samples": importance_samples}
    order = PosteriorOrder(
        flow=flow,
        data=data,
        recipe=recipe,
        seed=seed,
        device=device,
        threads=threads,
        settings=user_layers(config, settings or []) | {k: v for k, v in own.items() if v is not None},
    )
    how = How(force=force, restart=restart, checkpoint_every=checkpoint_every)
    show(carry_out_by(PosteriorCourse, order, folder, how), posterior_summary, as_json)
