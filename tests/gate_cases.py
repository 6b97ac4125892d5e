"""Folders of runs whose rows are known, as a gate's tests want them."""

from __future__ import annotations

import numpy as np
from records import make_record

from flowbench.report.gate.baseline import Comparison
from flowbench.results import store
from flowbench.results.record import Estimate
from flowbench.results.statistics import mean_and_stderr

ROWS = 4_000


def rows(seed=0, loss=0.0, spread=0.05, n=ROWS, between_seeds=0.0):
    """Log-likelihoods as a run of that seed has them: rows are hard for all runs alike, and each differs a little."""
    hard = np.random.default_rng(0).normal(-3, 2, n)
    rng = np.random.default_rng([1, seed])
    return hard + spread * rng.normal(size=n) + between_seeds * rng.normal() - loss


def write_run(folder, lls=None, seed=0, **changes):
    """A run with such rows (None: a run without any), in its file; returns the file's path."""
    what = {
        "flow": "maf",
        "data": "d",
        "seed": seed,
        "status": "ok",
        "n_test": ROWS if lls is None else len(lls),
    } | changes
    what = {"config_hash": f"{what['flow']} {what['data']} {seed}", "rows_sha256": {}} | what
    what.setdefault("run", f"{what['flow']}-{what['data']}-{seed}")
    if lls is not None and what["status"] == "ok":
        mean, stderr = mean_and_stderr(lls)
        what["test_ll_nats"] = Estimate(mean=mean, stderr=stderr)
    return store.write(make_record(**what), folder, lls)


def findings(new, baseline, max_nats=0.02, **chosen):
    """The findings on two folders."""
    return Comparison(new, baseline, **chosen).findings(max_nats)


def verdicts(new, baseline, max_nats=0.02, **chosen):
    """The verdict on each line."""
    return [finding.verdict for finding in findings(new, baseline, max_nats, **chosen)]
