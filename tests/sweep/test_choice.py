"""What a sweep chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from records import make_record

from flowbench.config import read_toml, shipped
from flowbench.results.record import RunRecord
from flowbench.sweep.choice import record_sweep
from flowbench.sweep.conduct import State
from flowbench.sweep.spec import Spec, checked, jobs

SPEC = Spec(flows=("maf",), data=("power",), seeds=2, grid={"transforms": [5, 10]}, pick=True)


def ended(nats: dict[int, list[float | None]]) -> tuple[list[State], list[RunRecord]]:
    """States and records, by transforms the validation likelihood of each seed; None: its process died."""
    states, records = [], []
    for job in jobs(SPEC):
        transforms, seed = job.order.settings["transforms"], job.order.seed
        found = nats[transforms][seed]
        if found is None:
            states.append(State(job, "failed", error="its process died"))
            continue
        name, config = f"maf-{transforms}-{seed}", {"transforms": transforms}
        states.append(State(job, "ok", run=name))
        records.append(make_record(run=name, seed=seed, config=config, validation_ll_nats=found))
    return states, records


def written(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("sweep-*.json")
    return json.loads(path.read_text())


def test_the_best_by_validation_is_chosen_with_all_its_seeds(tmp_path: Path) -> None:
    states, records = ended({5: [1.0, 2.0], 10: [3.0, 0.5]})
    assert record_sweep(SPEC, states, records, tmp_path, "2026-01-02") == ["maf-10-0", "maf-10-1"]
    found = written(tmp_path)
    assert (found["chosen"], found["not_chosen"]) == (["maf-10-0", "maf-10-1"], ["maf-5-0", "maf-5-1"])
    assert found["started_at"] == "2026-01-02"
    assert found["ordered"]["grid"] == {"transforms": [5, 10]}


def test_a_configuration_of_which_a_process_died_is_not_chosen(tmp_path: Path) -> None:
    states, records = ended({5: [1.0, 2.0], 10: [3.0, None]})
    assert record_sweep(SPEC, states, records, tmp_path, "") == ["maf-5-0", "maf-5-1"]
    assert written(tmp_path)["not_chosen"] == ["maf-10-0"]


def test_nothing_is_chosen_before_all_have_ended(tmp_path: Path) -> None:
    states, records = ended({5: [1.0, 2.0], 10: [3.0, 0.5]})
    states[0].stage = "interrupted"
    assert record_sweep(SPEC, states, records, tmp_path, "") == []
    assert written(tmp_path)["not_chosen"] == []


@pytest.mark.parametrize("path", sorted(shipped("configs").glob("sweep-*.toml")), ids=lambda path: path.stem)
def test_a_packaged_sweep_is_one(path: Path) -> None:
    for job in jobs(checked(read_toml(path))):
        job.order.config()
