"""What a run says at its end: its figures, and a table of what a density and a sample cost. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench.console import plural
from flowbench.report.layout import given_groups, plain
from flowbench.results.record import Estimate, Likelihoods, RunRecord, Task, Trained, Training


def summary(record: RunRecord) -> RenderableType:
    """The record as a person reads it; intervals are ± 2 standard errors."""
    task, setup = record.task, record.setup
    shape = f"{task.n_train:,} / {task.n_validation:,} / {task.n_test:,} rows of {plural(task.dim, 'column')}"
    shape += f" given {', '.join(map(repr, task.given))}" if task.given else ""
    where = f"recipe {setup.recipe} · seed {setup.seed} · {record.environment.device}"
    lines = [*_likelihoods(record.likelihoods, task), *_training(record.training), *closing(record)]
    return Group(plain(f"{task.flow} on {task.data} · {shape} · {where}"), named(lines), "", _times(record))


def named(lines: Iterable[tuple[str, str]]) -> Table:
    """Figures, each behind its name."""
    figures = Table.grid(padding=(0, 2))
    for name, value in lines:
        figures.add_row(f"  {name}", plain(value))
    return figures


def closing(record: Trained) -> list[tuple[str, str]]:
    """How the checks ended, and what is doubted."""
    passed = sum(check.passed for check in record.checks.values())
    verdict = f"{passed} of {len(record.checks)} passed" + (f": {record.error}" if record.error else "")
    return [("checks", verdict), *(("doubt", doubt) for doubt in record.doubts)]


def _likelihoods(found: Likelihoods, task: Task) -> list[tuple[str, str]]:
    test = found.test_ll_nats
    lines = [("test log-likelihood", f"{interval(test)} nats ({task.space} space)")]
    if test and test.stderr_by_group is not None and task.test_groups:
        error = f"± {2 * test.stderr_by_group:.3f} nats; {given_groups(task.test_groups)}"
        lines.append(("  error by photograph", error))
    if found.far_test_rows and found.test_ll_without_far_rows_nats is not None:
        far = f"{plural(found.far_test_rows, 'row')} beyond 10 standard deviations"
        lines.append((f"  without {far}", f"{found.test_ll_without_far_rows_nats:.3f} nats"))
    if found.test_ll_own_units_nats is not None:
        counted = any(word in kind for kind in task.kinds.values() for word in ("category", "apart", "mass"))
        measure = " (what is discrete is counted, all else in its units)" if counted else ""
        lines.append(("  in the data's own units", f"{found.test_ll_own_units_nats:.3f} nats{measure}"))
    if task.ties_allowed:
        tied = ", ".join(map(repr, task.ties_allowed))
        lines.append(("  ties allowed", f"{tied}: this likelihood can grow without bound"))
    if found.class_averaged_test_ll_nats:
        averaged = f"{interval(found.class_averaged_test_ll_nats)} nats: p(x), if all are alike"
        lines.append(("  averaged over the classes", averaged))
    if found.gaussian_test_ll_nats:
        gaussian = "Gaussian, linear in what is given" if task.given else "Gaussian, full covariance"
        lines.append((gaussian, f"{interval(found.gaussian_test_ll_nats)} nats"))
    if found.bits_per_pixel:
        lines.append(("bits per pixel", interval(found.bits_per_pixel)))
    if found.nats_below_truth:
        below = interval(found.nats_below_truth, digits=4)
        lines.append(("below the truth (KL)", f"{below} nats; the truth is {found.true_test_ll_nats:.3f}"))
    return lines


def _training(took: Training) -> list[tuple[str, str]]:
    if not took.epochs or took.train_seconds is None:
        return []
    rate = f"{took.train_rows_per_second:,.0f} rows/s"
    retries = f", {plural(took.retries, 'return')} from what was not finite" if took.retries else ""
    epochs = f"{plural(took.epochs, 'epoch')}, best {took.best_epoch}"
    lines = [("training", f"{epochs}, {took.train_seconds:.1f} s, {rate}{retries}")]
    return lines + [("  was broken off", change) for change in took.changed]


def _times(record: RunRecord) -> Table:
    table = Table(title="microseconds per row, median (quartiles)", title_justify="left")
    table.add_column("batch", justify="right")
    passes = {"density": record.task.density_passes, "sampling": record.task.sampling_passes}
    for direction, number in passes.items():
        textbook = f"\n({plural(number, 'pass')} in the textbook)" if number else ""
        table.add_column(f"{direction}{textbook}", justify="right")
    for timing in record.timings:
        density = (timing.density_us_per_row, timing.density_us_per_row_q1, timing.density_us_per_row_q3)
        sampling = (timing.sampling_us_per_row, timing.sampling_us_per_row_q1, timing.sampling_us_per_row_q3)
        table.add_row(f"{timing.batch:,}", quartiles(*density), quartiles(*sampling))
    return table


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """A mean ± 2 standard errors."""
    if estimate is None or estimate.mean is None:
        return "not finite"
    error = "" if estimate.stderr is None else f" ± {2 * estimate.stderr:.{digits}f}"
    return f"{estimate.mean:.{digits}f}{error}"


def quartiles(median: float, q1: float, q3: float) -> str:
    """A median with the quartiles around it."""
    return f"{median:.3g} ({q1:.3g}–{q3:.3g})"
