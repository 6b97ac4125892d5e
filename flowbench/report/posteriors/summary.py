"""What a posterior's run says at its end. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural
from flowbench.report.layout import plain
from flowbench.results.record import Estimate
from flowbench.results.variational import PosteriorRecord, PosteriorTiming


def summary(record: PosteriorRecord) -> RenderableType:
    """The record of one; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    shape = f"{task.n_train:,} / {task.n_validation:,} / {task.n_test:,} rows of {plural(task.dim, 'column')}"
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    figures = Table.grid(padding=(0, 2))
    for name, value in _lines(record):
        figures.add_row(f"  {name}", plain(value))
    title = f"posterior {record.model} on {task.data} · {shape} · {record.networks} · {where}"
    return Group(plain(title), figures, "", _times(record.costs))


def _lines(record: PosteriorRecord) -> Iterator[tuple[str, str]]:
    found, took = record.bound, record.training
    yield "variational bound", f"{_interval(found.bound_nats)} nats ({record.task.space} space)"
    ess = "" if found.ess is None else f", {found.ess:.1f} of them effective"
    samples = f"by {plural(found.importance_samples or 0, 'importance sample')} of each row{ess}"
    bias = "" if found.bias_nats is None else f", about {found.bias_nats:.2g} too low"
    yield "log p(x), estimated", f"{_interval(found.log_likelihood_nats)} nats {samples}{bias}"
    if found.nats_below_truth is not None:
        below = _interval(found.nats_below_truth, digits=5)
        yield "bound below the truth", f"{below} nats; log p(x) is {found.true_test_ll_nats:.3f}"
    yield "KL from the prior", f"{_interval(found.kl_nats)} nats"
    yield "reconstruction", f"{_interval(found.reconstruction_nats)} nats"
    yield "active latents", f"{found.active_latents} of {found.latents}"
    if took.epochs and took.train_seconds is not None:
        rate = f"{took.train_rows_per_second:,.0f} rows/s"
        yield "training", f"{plural(took.epochs, 'epoch')}, best {took.best_epoch}, {took.train_seconds:.1f} s, {rate}"
    passed = sum(check.passed for check in record.checks.values())
    yield "checks", f"{passed} of {len(record.checks)} passed" + (f": {record.error}" if record.error else "")
    for doubt in record.doubts:
        yield "doubt", doubt


def _times(costs: Sequence[PosteriorTiming]) -> Table:
    """Both directions of the posterior, by each way, at each batch size."""
    table = Table(title="the posterior, microseconds per row, median (quartiles)", title_justify="left")
    table.add_column("batch", justify="right")
    ways = list(dict.fromkeys((cost.direction, cost.way) for cost in costs))
    names = {"sample": "a sample with its density", "density": "the density of a point"}
    for direction, way in ways:
        table.add_column(
            f"{names[direction]}\nby {way}" if way != "one pass" else f"{names[direction]}\none pass", justify="right"
        )
    for batch in dict.fromkeys(cost.batch for cost in costs):
        found = {(cost.direction, cost.way): cost for cost in costs if cost.batch == batch}
        table.add_row(f"{batch:,}", *(_quartiles(found[key]) if key in found else "" for key in ways))
    return table


def _quartiles(cost: PosteriorTiming) -> str:
    return f"{cost.us_per_row:.3g} ({cost.us_per_row_q1:.3g}–{cost.us_per_row_q3:.3g})"


def _interval(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None or estimate.mean is None:
        return "not finite"
    return f"{estimate.mean:.{digits}f}" + (
        f" ± {2 * estimate.stderr:.{digits}f}" if estimate.stderr is not None else ""
    )
