"""What importing flowbench does to the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="asks libgomp, which torch brings along on Linux")
@pytest.mark.parametrize("imported", ["import flowbench, torch", "from flowbench import FlowDensity"])
@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({}, "GOMP_SPINCOUNT = '0'"),  # a policy of its own would say PASSIVE too, and spin 300,000 times
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
    ],
)
def test_threads_of_torch_sleep_while_they_wait_unless_the_user_has_said(
    imported: str, own: dict[str, str], told: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    run = [sys.executable, "-c", imported]
    environment |= own | {"OMP_DISPLAY_ENV": "verbose"}
    with subprocess.Popen(run, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(told in line for line in process.stderr)
        finally:
            process.kill()  # the rest of the import takes seconds, and would not change it


def test_what_the_user_says_to_another_runtime_is_not_overruled() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    program = "import flowbench, os; print(os.environ.get('OMP_WAIT_POLICY'))"
    for own, told in (({}, "passive"), ({"KMP_BLOCKTIME": "200"}, "None"), ({"GOMP_SPINCOUNT": "7"}, "None")):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment | own, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == told
