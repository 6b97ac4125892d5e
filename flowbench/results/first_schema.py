"""Records of runs as the first schema had them, turned into those of today. Never imports torch."""

from __future__ import annotations

from typing import Any

from flowbench.results.record import SCHEMA_VERSION


def from_v1(old: dict[str, Any]) -> dict[str, Any]:
    """The first schema's flat fields, sorted into parts: a mean and its error were two fields of one name."""

    def estimate(name: str, stderr: str) -> dict[str, Any] | None:
        return None if old.get(name) is None else {"mean": old[name], "stderr": old.get(stderr)}

    means = {
        name: estimate(name, stderr)
        for name, stderr in (
            ("test_ll_nats", "test_ll_stderr_nats"),
            ("gaussian_test_ll_nats", "gaussian_test_ll_stderr_nats"),
            ("bits_per_pixel", "bits_per_pixel_stderr"),
            ("nats_below_truth", "nats_below_truth_stderr"),
        )
    }
    beside = {"weights": f"{old.get('run')}.safetensors", "test_lls": f"{old.get('run')}.npy"}
    parts = {"task": old, "setup": old, "training": old, "likelihoods": old | means, "files": beside}
    return old | parts | {"schema_version": SCHEMA_VERSION, "kind": "run"}
