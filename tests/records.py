"""Records of runs, as tests want them."""

from __future__ import annotations

from pathlib import Path

from flowbench.results.record import (
    Check,
    Environment,
    Estimate,
    Figure,
    Likelihoods,
    RunRecord,
    Setup,
    Task,
    Timing,
    Training,
)

ENVIRONMENT = Environment(
    device="cpu",
    device_name="a processor",
    threads=2,
    dtype="float32",
    versions={"torch": "2.13.0"},
    git_revision="0123abc",
    code_digest="c0de",
    platform="Linux",
)

PARTS = {"task": Task, "setup": Setup, "training": Training, "likelihoods": Likelihoods}

ENDED_WELL = {
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


def timing(batch=100, density=2.0, sampling=20.0, **changes):
    figures = {f"density_us_per_row{quartile}": density for quartile in ("", "_q1", "_q3")}
    figures |= {f"sampling_us_per_row{quartile}": sampling for quartile in ("", "_q1", "_q3")}
    first = {"first_density_us_per_row": 10 * density, "first_sampling_us_per_row": 10 * sampling}
    return Timing(**{"batch": batch, "runs": 20} | figures | first | changes)


def make_record(**changes):
    """A record of a run that ended well, but for ``changes``: fields of the record or of any of its parts."""
    fields = ENDED_WELL | changes
    parts = {
        name: part(**{key: fields.pop(key) for key in list(fields) if key in part.model_fields})
        for name, part in PARTS.items()
    }
    assert set(fields) <= set(RunRecord.model_fields)
    return RunRecord(**parts | fields)


def figures(value=0.1):
    """Every figure that a part may have, each with a value of its own."""
    found = {}
    for part in (Training, Likelihoods):
        for name, field in part.model_fields.items():
            value += 1
            if field.annotation == Estimate | None:
                found[name] = Estimate(mean=value, stderr=value / 10, stderr_by_group=value / 5)
            elif field.annotation == Figure or field.annotation == float | None:
                found[name] = value
    return found


def full_record(**changes):
    """A record with every figure."""
    counts = {
        "parameters": 7,
        "epochs": 3,
        "steps_per_epoch": 4,
        "best_epoch": 2,
        "density_passes": 1,
        "sampling_passes": 6,
    }
    check = Check(value=1e-6, limit=1e-3, passed=True, what="max |inverse(forward(x)) - x|")
    nested = {"checks": {"inverse": check}, "timings": [timing(100), timing(1000)], "dequantised": {"price": 0.01}}
    nested |= {"rows_sha256": {"train": "aa", "validation": "bb", "test": "cc"}}
    more = {
        "given": {"weight": 0},
        "kinds": {"price": "bounded 0:"},
        "ties_allowed": ("price",),
        "doubts": ("test rows are of another kind",),
        "test_groups": 3,
        "total_seconds": 9.5,
        "split_seed": 4,
        "noise_seed": 5,
        "init_seed": 6,
        "shuffle_seed": 7,
    }
    names = ("train_ll_nats", "validation_ll_nats", "seconds", "learning_rate", "gradient_norm")
    more |= {"retries": 1, "changed": ("threads 2 before, 1 now",), "history": {name: [1.5, None, 3] for name in names}}
    more |= {"far_test_rows": 2, "test_ll_without_far_rows_nats": 0.25}
    return make_record(**figures() | counts | nested | more | changes)


def by_path(records):
    """Records as ``read_all`` has them, each in a file of its own that is not there."""
    return {Path(f"{index}.json"): record for index, record in enumerate(records)}
