"""What a run says at its end: its figures, and a table of what a density and a sample cost. No torch."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowbench.results.record import Row


def summary(row: Row) -> RenderableType:
    """The row as a person reads it; intervals are ± 2 standard errors."""
    shape = f"{row.n_train:,} / {row.n_validation:,} / {row.n_test:,} rows of {row.dim} columns"
    title = f"{row.flow} on {row.data} · {shape} · recipe {row.recipe} · seed {row.seed} · {row.environment.device}"
    figures = Table.grid(padding=(0, 2))
    for name, value in _figures(row):
        figures.add_row(f"  {name}", Text(value))
    return Group(Text(title), figures, "", _times(row))


def _figures(row: Row) -> list[tuple[str, str]]:
    lines = [
        ("test log-likelihood", f"{_interval(row.test_ll_nats, row.test_ll_stderr_nats)} nats ({row.space} space)")
    ]
    if row.test_ll_own_units_nats is not None:
        lines.append(("  in the table's own units", f"{row.test_ll_own_units_nats:.3f} nats"))
    if row.gaussian_test_ll_nats is not None:
        gaussian = _interval(row.gaussian_test_ll_nats, row.gaussian_test_ll_stderr_nats)
        lines.append(("Gaussian, full covariance", f"{gaussian} nats"))
    if row.bits_per_pixel is not None:
        lines.append(("bits per pixel", _interval(row.bits_per_pixel, row.bits_per_pixel_stderr)))
    if row.nats_below_truth is not None:
        below = _interval(row.nats_below_truth, row.nats_below_truth_stderr, digits=4)
        lines.append(("below the truth (KL)", f"{below} nats; the truth is {row.true_test_ll_nats:.3f}"))
    if row.epochs and row.train_seconds is not None:
        rate = f"{row.train_rows_per_second:,.0f} rows/s"
        lines.append(("training", f"{row.epochs} epochs, best {row.best_epoch}, {row.train_seconds:.1f} s, {rate}"))
    passed = sum(check.passed for check in row.checks.values())
    lines.append(("checks", f"{passed} of {len(row.checks)} passed" + (f": {row.error}" if row.error else "")))
    return lines


def _times(row: Row) -> Table:
    table = Table(title="microseconds per row, median (quartiles)", title_justify="left")
    table.add_column("batch", justify="right")
    for direction, passes in (("density", row.density_passes), ("sampling", row.sampling_passes)):
        table.add_column(
            f"{direction}\n{passes} {'pass' if passes == 1 else 'passes'} in the textbook", justify="right"
        )
    for timing in row.timings:
        density = (timing.density_us_per_row, timing.density_us_per_row_q1, timing.density_us_per_row_q3)
        sampling = (timing.sampling_us_per_row, timing.sampling_us_per_row_q1, timing.sampling_us_per_row_q3)
        table.add_row(f"{timing.batch:,}", _quartiles(*density), _quartiles(*sampling))
    return table


def _interval(mean: float | None, stderr: float | None, digits: int = 3) -> str:
    if mean is None:
        return "not finite"
    return f"{mean:.{digits}f}" + (f" ± {2 * stderr:.{digits}f}" if stderr is not None else "")


def _quartiles(median: float, q1: float, q3: float) -> str:
    return f"{median:.3g} ({q1:.3g}–{q3:.3g})"
