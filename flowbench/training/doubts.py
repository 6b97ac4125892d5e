"""What a finished run should be doubted for, in words: figures that are right, and mean less than they seem to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from flowbench.data import Dataset
from flowbench.data.gaussian import TooWideError
from flowbench.errors import DataError
from flowbench.flows import Flow
from flowbench.flows.core.density import log_likelihoods
from flowbench.results import statistics as stats

Lls = NDArray[np.float64]

CLEAR = 5.0
"""Standard errors. Where the digits' training rows were further above the validation rows (maf of 64 and of 256 units,
nsf-ar of 16), dropout of 0.1 raised the validation likelihood, by 4.7, 3.6 and 0.2 nats."""

SPIKE_ROWS, SPIKE_COLUMNS, FEWEST = 300, 16, 5
"""Of a look for spikes: test rows, columns, and rows with a value that training rows share. It takes a second or two
of the slowest flows."""

SHIFT, SPIKE = 1e-3, 1.0
"""In standard deviations of a column, a move that no density of it should feel; in nats, what one loses in a spike,
beyond what other rows lose by it: what depends steeply on a column loses something everywhere."""


def doubts(
    flow: Flow, dataset: Dataset, train_ll: float | None, validation_ll: float | None, test_lls: Lls
) -> tuple[str, ...]:
    """Each in a sentence; none of a run that is as it should be.

    ``train_ll`` and ``validation_ll`` are the best epoch's mean log-likelihoods in nats, ``test_lls`` (N_test,) all.
    """
    if not np.isfinite(test_lls).all():
        return ()
    found: list[str | None] = [*dataset.remarks]
    found += [_below_the_gaussian(dataset, test_lls), _by_heart(dataset, train_ll, validation_ll, test_lls)]
    found += [_other_rows(dataset, validation_ll, test_lls), *_spikes(flow, dataset)]
    return tuple(doubt for doubt in found if doubt)


def _below_the_gaussian(dataset: Dataset, test_lls: Lls) -> str | None:
    try:
        below, error = _mean_and_stderr(dataset, dataset.gaussian_lls - test_lls)
    except TooWideError:
        return None
    except DataError as singular:
        return str(singular)
    if not below > 2 * error:
        return None
    return f"the flow is {below:.3f} ± {2 * error:.3f} nats below a Gaussian with mean and covariance: train it longer"


def _by_heart(dataset: Dataset, train_ll: float | None, validation_ll: float | None, test_lls: Lls) -> str | None:
    if train_ll is None or validation_ll is None or len(test_lls) < 2:
        return None
    above = train_ll - validation_ll
    if not above > CLEAR * test_lls.std(ddof=1) / math.sqrt(dataset.rows[1]):
        return None
    return (
        f"training rows are {above:.3f} nats above validation rows: the flow knows some by heart. Dropout, a smaller "
        "flow or more rows may help"
    )


def _other_rows(dataset: Dataset, validation_ll: float | None, test_lls: Lls) -> str | None:
    if validation_ll is None or len(test_lls) < 2:
        return None
    mean, error = _mean_and_stderr(dataset, test_lls)
    error = math.hypot(error, test_lls.std(ddof=1) / math.sqrt(dataset.rows[1]))
    if not abs(mean - validation_ll) > CLEAR * error:
        return None
    return (
        f"test rows are {abs(mean - validation_ll):.3f} nats {'above' if mean > validation_ll else 'below'} validation "
        "rows, which chose the epoch: they are of another kind"
    )


def _mean_and_stderr(dataset: Dataset, values: Lls) -> tuple[float, float]:
    groups = dataset.test_groups
    return stats.mean_and_stderr(values) if groups is None else stats.mean_and_stderr_by_group(values, groups)


@torch.no_grad()
def _spikes(flow: Flow, dataset: Dataset) -> Iterator[str]:
    """Columns of an own table at whose repeated values the density is a spike: there it can grow without bound."""
    if dataset.card is not None or dataset.columns is None:
        return
    first = dataset.train.shape[1] - dataset.dim
    train, test = np.array(dataset.train[: 50 * SPIKE_ROWS]), np.array(dataset.test[:SPIKE_ROWS])
    names = dataset.columns[len(dataset.columns) - dataset.dim :]
    ties = {}
    for place in range(first, train.shape[1]):
        values, counts = np.unique(train[:, place], return_counts=True)
        tied = np.isin(test[:, place], values[counts >= FEWEST])
        if tied.sum() >= FEWEST:
            ties[place] = tied
    for place, tied in list(ties.items())[:SPIKE_COLUMNS]:
        lost = _lost_beside(flow, test, place)
        more = float(lost[tied].mean() - (lost[~tied].mean() if not tied.all() else 0.0))
        if more > SPIKE:
            yield (
                f"column {names[place - first]!r} has values that come again, and the density is a spike there: a "
                f"thousandth of a standard deviation beside them it is {more:.1f} nats lower. The likelihood can grow "
                "without bound"
            )


def _lost_beside(flow: Flow, rows: NDArray[np.float32], place: int) -> Lls:
    """What rows (n, D) lose, in nats (n,), by a small move of one column, either way."""
    beside = []
    for shift in (0.0, SHIFT, -SHIFT):
        moved = rows.copy()
        moved[:, place] += shift
        beside.append(log_likelihoods(flow, torch.from_numpy(moved).to(flow.origin.device)))
    return np.asarray(beside[0] - (beside[1] + beside[2]) / 2)
