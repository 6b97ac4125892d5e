"""Runs and folders of runs as the tests of rankings want them."""

from __future__ import annotations

import io
import json

import numpy as np
from records import by_path, make_record, timing
from rich.console import Console

from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.sheet import show
from flowbench.report.ranking.tables import tables
from flowbench.results import store
from flowbench.results.record import Estimate
from flowbench.results.statistics import mean_and_stderr

SIZE = {"transforms": 5, "hidden": [100, 100]}


def run(flow="maf", nats=0.8, seed=0, settings=None, **changes):
    """A run that reached ``nats`` on test rows, and as much on validation rows; each configuration has its own hash."""
    config = SIZE | (settings or {})
    reached = None if nats is None else Estimate(mean=nats, stderr=0.0063)
    what = {
        "flow": flow,
        "seed": seed,
        "config": config,
        "config_hash": json.dumps([flow, seed, config, changes.get("recipe"), changes.get("data"), str(changes)]),
        "run": f"{flow}-{seed}-{nats}",
        "validation_ll_nats": nats,
        "test_ll_nats": reached,
        "train_seconds": 77.0,
    }
    return make_record(**what | changes)


def three_flows(**changes):
    """What the papers claim: MAF's density is fast, IAF's sampling, both of RealNVP's."""
    fast, slow = 2.0, 20.0
    costs = {"maf": (fast, slow, 1, 6), "iaf": (slow, fast, 6, 1), "realnvp": (fast, fast, 1, 1)}
    return [
        run(
            flow,
            nats,
            density_passes=density_passes,
            sampling_passes=sampling_passes,
            timings=[timing(100, density, sampling), timing(1000, density / 2, sampling / 2)],
            **changes,
        )
        for nats, (flow, (density, sampling, density_passes, sampling_passes)) in zip(
            (0.8, 0.4, 0.1), costs.items(), strict=True
        )
    ]


def rows(mean=0.0, spread=0.1, n=1000, seed=0):
    """Rows that are hard for all alike, each a little different; ``mean`` is theirs exactly."""
    hard = 10 * np.random.default_rng(0).standard_normal(n)
    found = hard + spread * np.random.default_rng([1, seed, int(1000 * abs(mean))]).standard_normal(n)
    return np.float32(found - found.mean() + mean).astype(np.float64)


def write_run(folder, flow="maf", lls=None, seed=0, settings=None, **changes):
    """A run with such rows, in its file; their mean is what it reached."""
    figures = {}
    if lls is not None:
        mean, stderr = mean_and_stderr(lls)
        figures = {"nats": mean, "test_ll_nats": Estimate(mean=mean, stderr=stderr), "n_test": len(lls)}
    record = run(flow, seed=seed, settings=settings, **{"data": "mine"} | figures | changes)
    name = f"{flow}-{seed}-{len(list(folder.glob('*.json')))}"
    return store.write(record.model_copy(update={"run": name}), folder, lls)


def only(records, **options):
    """The one table of these records."""
    (table,) = tables(by_path(records), **options)
    return table


def read(folder, **options):
    """The one table of a folder."""
    (table,) = tables(store.read_all(folder), **options)
    return table


def printed(found, width=None, **console):
    """What is printed of tables on a terminal of that width; piped where there is none."""
    out = io.StringIO()
    terminal = {"force_terminal": True, "width": width} if width else {"force_terminal": False}
    show([ranking(table) for table in found], Console(file=out, color_system=None, **terminal, **console))
    return out.getvalue()


def shown(records, width=None, passed_over=(), **console):
    """As ``printed``, of records."""
    return printed(tables(by_path(records), passed_over=passed_over), width, **console)


def line_of(text, start):
    """The one line of a text that starts so."""
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return line
