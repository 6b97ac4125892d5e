"""Sketches as tests want them, and results with all that a page shows."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image as Picture
from ranking_cases import run
from records import ENVIRONMENT, timing

from flowbench.results import costs, store
from flowbench.results.costs import Exponent, TimeRecord
from flowbench.results.record import Estimate, History
from flowbench.results.sketch import (
    BINS,
    PIT_BINS,
    Calibration,
    ExtremeRow,
    Image,
    Images,
    LogDensities,
    Marginal,
    Sketch,
)

ROWS = 300

HOSTILE = "<script>alert(1)</script>"
STEERS = '"quoted" & \x1b[31mred'


def sketch(columns=("a", HOSTILE, "c"), seed=0, with_images=False, **changes):
    """A sketch of three columns of numbers, the last one with classes."""
    rng = np.random.default_rng(seed)
    numbers = [Marginal(column=i, low=-3.0, high=3.0, distance=0.01 + i / 10, **_counts(rng, BINS + 2)) for i in (0, 1)]
    classes = Marginal(column=2, labels=["x", "<b>y</b>"], distance=0.02, rows=[3, 7], samples=[4, 6])
    rows, samples = (np.round(rng.normal(size=(40, 2)), 3).tolist() for _ in range(2))
    found = {
        "units": "the data's own units",
        "columns": list(columns),
        "n_rows": 1000,
        "n_samples": 500,
        "marginals": [*numbers, classes],
        "paired": [0, 1],
        "rows": rows,
        "samples": samples,
        "log_densities": LogDensities(low=-9.0, high=1.0, **_counts(rng, BINS)),
        "least_likely": [ExtremeRow(row=7, nats=-30.5, values=[1.0, None, 2.0])],
        "most_likely": [ExtremeRow(row=8, nats=2.5, values=[0.0, 0.5, 1.0])],
        "calibration": [
            Calibration(column=i, mean=0.0, sd=1.0, distance=0.03, counts=rng.integers(40, 60, PIT_BINS).tolist())
            for i in (0, 1)
        ],
        "calibration_distances": [0.03, 0.03, 0.03],
        "exact": True,
        "images": images() if with_images else None,
    }
    return Sketch(**found | changes)


def _counts(rng, bins):
    return {"rows": rng.integers(1, 90, bins).tolist(), "samples": rng.integers(1, 90, bins).tolist()}


def images():
    """Pictures of four by four pixels."""
    buffer = io.BytesIO()
    Picture.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 16) * 3).save(buffer, "PNG")
    image = Image(side=4, across=4, count=4, png=base64.b64encode(buffer.getvalue()).decode())
    return Images(rows=image, samples=image, least_likely=image, most_likely=image)


def history(epochs=5, start=-3.0):
    nats = [start + np.log1p(epoch) for epoch in range(epochs)]
    return History(
        train_ll_nats=[each - 0.1 for each in nats],
        validation_ll_nats=nats,
        seconds=[2.0 * epoch + 1 for epoch in range(epochs)],
        learning_rate=[1e-3] * epochs,
        gradient_norm=[1.0] * epochs,
    )


def write_results(folder):
    """Runs on two datasets: flows, seeds, revisions, a diverged one, markup in names, sketches; and a time record."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=ROWS)
    for place, (flow, seed, nats) in enumerate(
        [("maf", 0, 1.0), ("maf", 1, 1.1), ("iaf", 0, 0.6), ("realnvp", 0, 0.4), (HOSTILE, 0, 0.1)]
    ):
        lls = base + nats + rng.normal(size=ROWS) / 20
        write_run(folder, lls, flow=flow, seed=seed, run=f"run-{place}", data="mine", cost=2.0 + place, place=place)
    write_run(folder, base + 1.05, flow="maf", run="newer", data="mine", revision="fedcba9", when=3, cost=2.0, place=9)
    error = f"{HOSTILE} {STEERS} at step 3"
    broken = run("maf", None, run="diverged", data="mine", n_test=ROWS, status="diverged", error=error)
    store.write(broken, folder)
    write_run(folder, base, flow="maf", run="other", data='pow"er', cost=1.0, place=3)
    costs.write(times(), folder)


def write_run(folder, lls, revision="0123abc", when=2, cost=1.0, place=0, **changes):
    mean, error = float(lls.mean()), float(lls.std() / len(lls) ** 0.5)
    environment = ENVIRONMENT.model_copy(update={"git_revision": revision, "code_digest": revision})
    found = run(
        config_hash=changes["run"],
        nats=mean,
        n_test=len(lls),
        test_ll_nats=Estimate(mean=mean, stderr=error),
        environment=environment,
        started_at=f"2026-01-0{when}T03:04:05+00:00",
        timings=[timing(100, cost, 2 * cost), timing(1000, cost / 2, cost)],
        history=history(),
        epochs=5,
        steps_per_epoch=10,
        best_epoch=4,
        **changes,
    )
    store.write(found, folder, lls, sketch=sketch(seed=place, with_images=place == 1))


def times():
    exponent = Exponent(flow="maf", work="density", exponent=1.1, dims=(4, 8, 16), us_per_row=(1.0, 2.1, 4.6))
    where = {"environment": ENVIRONMENT, "started_at": "2026-01-02T03:04:05+00:00"}
    return TimeRecord(run="time-maf", data="truth", matrix_gflops=50.0, exponents=[exponent], **where)
