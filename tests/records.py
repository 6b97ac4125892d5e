"""Records of runs, as tests want them."""

from __future__ import annotations

from flowbench.results.record import Check, Environment, Row, Timing

ENVIRONMENT = Environment(
    device="cpu",
    device_name="a processor",
    threads=2,
    dtype="float32",
    versions={"torch": "2.13.0"},
    git_revision="0123abc",
    platform="Linux",
)


def timing(batch=100, density=2.0, sampling=20.0, **changes):
    figures = {f"density_us_per_row{quartile}": density for quartile in ("", "_q1", "_q3")}
    figures |= {f"sampling_us_per_row{quartile}": sampling for quartile in ("", "_q1", "_q3")}
    first = {"first_density_us_per_row": 10 * density, "first_sampling_us_per_row": 10 * sampling}
    return Timing(**{"batch": batch, "runs": 20} | figures | first | changes)


def make_row(**changes):
    """A row that ended well, but for ``changes``."""
    row = {
        "run": "maf-power-1a2b3c4d",
        "status": "ok",
        "flow": "maf",
        "data": "power",
        "data_version": 1,
        "data_fingerprint": "f00dbeef",
        "partial": False,
        "space": "standardised",
        "dim": 6,
        "n_train": 1_659_917,
        "n_validation": 184_435,
        "n_test": 204_928,
        "recipe": "fast",
        "seed": 0,
        "config": {"transforms": 5, "hidden": [100, 100]},
        "config_hash": "1a2b3c4d5e6f",
        "environment": ENVIRONMENT,
        "started_at": "2026-01-02T03:04:05+00:00",
    }
    return Row(**row | changes)


def full_row(**changes):
    """A row with every figure."""
    figures = {
        name: 0.1 + index
        for index, (name, field) in enumerate(Row.model_fields.items())
        if field.annotation == float | None
    }
    counts = {"parameters": 7, "epochs": 3, "best_epoch": 2, "density_passes": 1, "sampling_passes": 6}
    check = Check(value=1e-6, limit=1e-3, passed=True, what="max |inverse(forward(x)) - x|")
    nested = {"checks": {"inverse": check}, "timings": [timing(100), timing(1000)], "dequantised": {"price": 0.01}}
    return make_row(**figures | counts | nested | changes)
