"""What a posterior's run, or a fit to a target, says at its end. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural
from flowbench.report.layout import plain
from flowbench.report.runs import target_of
from flowbench.report.summary import closing, interval, named, quartiles
from flowbench.report.variational.targets import effective_percent
from flowbench.results.variational import PosteriorRecord, PosteriorTiming, TargetRecord


def posterior_summary(record: PosteriorRecord) -> RenderableType:
    """The record of one; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    shape = f"{task.n_train:,} / {task.n_validation:,} / {task.n_test:,} rows of {plural(task.dim, 'column')}"
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    title = f"posterior {record.model} on {task.data} · {shape} · {record.networks} · {where}"
    return Group(plain(title), named(_of_posterior(record)), "", _times(record.costs, "the posterior"))


def _of_posterior(record: PosteriorRecord) -> Iterator[tuple[str, str]]:
    found, took = record.bound, record.training
    yield "variational bound", f"{interval(found.bound_nats)} nats ({record.task.space} space)"
    ess = "" if found.ess is None else f", {found.ess:.1f} of them effective"
    samples = f"by {plural(found.importance_samples or 0, 'importance sample')} of each row{ess}"
    bias = "" if found.bias_nats is None else f", {found.bias_nats:.2g} too low at the least"
    yield "log p(x), estimated", f"{interval(found.log_likelihood_nats)} nats {samples}{bias}"
    if found.nats_below_truth is not None:
        below = interval(found.nats_below_truth, digits=5)
        yield "bound below the truth", f"{below} nats; log p(x) is {found.true_test_ll_nats:.3f}"
    yield "KL from the prior", f"{interval(found.kl_nats)} nats"
    yield "reconstruction", f"{interval(found.reconstruction_nats)} nats"
    if found.active_latents is not None:
        yield "active latents", f"{found.active_latents} of {found.latents}"
    if took.epochs and took.train_seconds is not None:
        rate = f"{took.train_rows_per_second:,.0f} rows/s"
        yield "training", f"{plural(took.epochs, 'epoch')}, best {took.best_epoch}, {took.train_seconds:.1f} s, {rate}"
    yield from closing(record)


def target_summary(record: TargetRecord) -> RenderableType:
    """The record of one; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    title = f"{record.model} fitted to {target_of(task.data)} · {plural(task.dim, 'coordinate')} · {where}"
    return Group(plain(title), named(_of_fit(record)), "", _times(record.costs, record.task.flow))


def _of_fit(record: TargetRecord) -> Iterator[tuple[str, str]]:
    found, took = record.fit, record.training
    yield "bound on log Z", f"{interval(found.bound_nats)} nats, over {found.draws or 0:,} draws"
    truth = "" if found.true_log_z_nats is None else f"; it is {found.true_log_z_nats:.4f}"
    yield "log Z, estimated", f"{interval(found.log_z_nats, digits=4)} nats by importance sampling{truth}"
    if found.ess is not None and found.largest_weight is not None:
        count = f"{found.ess:,.0f} ({effective_percent(record)}%)"
        yield "effective draws", f"{count}, the heaviest of {found.largest_weight:.2%} of all weight"
    if found.kl_nats is not None:
        yield "KL(q || p), reverse", f"{interval(found.kl_nats, digits=4)} nats"
    if found.exact_draws:
        yield (
            "KL(p || q), forward",
            f"{interval(found.forward_kl_nats, digits=4)} nats, over {found.exact_draws:,} draws",
        )
    yield from _moments(record)
    if found.steps and took.train_seconds is not None:
        best = f"best epoch {took.best_epoch} of {took.epochs}"
        yield "training", f"{plural(found.steps, 'step')}, {best}, {took.train_seconds:.1f} s"
    yield from closing(record)


def _moments(record: TargetRecord) -> Iterator[tuple[str, str]]:
    found = record.fit
    if found.worst_mean_in_sds is not None:
        where = _coordinate(found.worst_mean_coordinate)
        yield "worst mean", f"{found.worst_mean_in_sds:.3f} of the target's sd off{where}"
    if found.worst_sd_ratio is not None:
        exact = "" if found.exact_sd_ratio is None else f"; of exact draws it is {found.exact_sd_ratio:.3f}"
        yield (
            "worst sd",
            f"{found.worst_sd_ratio:.3f} times the target's{_coordinate(found.worst_sd_coordinate)}{exact}",
        )


def _coordinate(index: int | None) -> str:
    """From 1 on, as papers count."""
    return "" if index is None else f" (coordinate {index + 1})"


def _times(costs: Sequence[PosteriorTiming], of: str) -> Table:
    """Both directions ``of`` an approximation, by each way, at each batch size."""
    table = Table(title=f"{of}, microseconds per row, median (quartiles)", title_justify="left")
    table.add_column("batch", justify="right")
    ways = list(dict.fromkeys((cost.direction, cost.way) for cost in costs))
    names = {"sample": "a sample with its density", "density": "the density of a point"}
    for direction, way in ways:
        table.add_column(
            f"{names[direction]}\nby {way}" if way != "one pass" else f"{names[direction]}\none pass", justify="right"
        )
    for batch in dict.fromkeys(cost.batch for cost in costs):
        found = {(cost.direction, cost.way): cost for cost in costs if cost.batch == batch}
        table.add_row(f"{batch:,}", *(_median(found.get(key)) for key in ways))
    return table


def _median(cost: PosteriorTiming | None) -> str:
    return quartiles(cost.us_per_row, cost.us_per_row_q1, cost.us_per_row_q3) if cost else ""
