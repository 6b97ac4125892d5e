"""Records that older versions of flowbench wrote are read as they are."""

import json
from pathlib import Path

import pytest
from records import ENVIRONMENT, full_record

from flowbench.results import costs, store
from flowbench.results.trainings import KINDS

COMMITTED = sorted((Path(__file__).parents[2] / "results" / "reference").glob("*.json"))
TIMES = [path for path in COMMITTED if path.name.startswith("time-")]
KIND = {path: json.loads(path.read_text()).get("kind", "run") for path in COMMITTED if path not in TIMES}
REFERENCE = [path for path, kind in KIND.items() if kind == "run"]


def read(path):
    return store.read_as(KINDS[KIND[path]], path)


ESTIMATES = {
    "test_ll_nats": "test_ll_stderr_nats",
    "gaussian_test_ll_nats": "gaussian_test_ll_stderr_nats",
    "bits_per_pixel": "bits_per_pixel_stderr",
    "nats_below_truth": "nats_below_truth_stderr",
}


def test_there_are_reference_records():
    assert len(REFERENCE) >= 21


class TestReference:
    @pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
    def test_nothing_of_the_first_schema_is_lost(self, path):
        old, new = json.loads(path.read_text()), store.read(path).model_dump(mode="json")
        if old["schema_version"] != 1:
            pytest.skip("not of the first schema")
        assert (new.pop("schema_version"), old.pop("schema_version")) == (2, 1)
        for mean, stderr in ESTIMATES.items():
            found = new["likelihoods"][mean]
            assert (old.pop(mean), old.pop(stderr)) == ((found["mean"], found["stderr"]) if found else (None, None))
        flat = new | {
            key: value for part in ("task", "setup", "training", "likelihoods") for key, value in new[part].items()
        }
        assert flat["environment"].pop("code_digest") is None  # newer than the first schema
        assert old == {key: flat[key] for key in old}

    @pytest.mark.parametrize("path", KIND, ids=lambda path: path.stem)
    def test_it_is_the_same_when_it_is_written_again(self, path, tmp_path):
        record = read(path)
        again = store.read_as(type(record), store.write(record, tmp_path))
        assert again == record.model_copy(update={"files": again.files})

    @pytest.mark.parametrize("path", KIND, ids=lambda path: path.stem)
    def test_no_flow_is_beyond_the_truth(self, path):
        record = read(path)
        below = {
            "run": lambda: record.likelihoods.nats_below_truth,
            "posterior": lambda: record.bound.nats_below_truth,
            "target": lambda: record.fit.kl_nats,
        }[record.kind]()
        if below is not None:
            assert below.mean > -2 * below.stderr


@pytest.mark.parametrize("path", TIMES, ids=lambda path: path.stem)
def test_times_are_the_same_when_they_are_written_again(path, tmp_path):
    record = costs.read(path)
    assert costs.read(costs.write(record, tmp_path)) == record


def test_the_first_schema_without_a_field_is_named(tmp_path):
    document = json.loads(REFERENCE[0].read_text())
    del document["seed"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    with pytest.raises(store.UnreadableRecordError, match=r"setup\.seed"):
        store.read(tmp_path / "old.json")


def test_the_document_has_a_schema_version_and_its_kind(tmp_path):
    document = json.loads(store.write(full_record(), tmp_path).read_text())
    assert (document["schema_version"], document["kind"]) == (2, "run")


TIMES_V1 = {
    "schema_version": 1,
    "kind": "time",
    "run": "time-maf-d3",
    "data": "d3",
    "matrix_gflops": 50.0,
    "shapes": [
        {
            "flow": "maf",
            "dim": 3,
            "options": {"hidden": [4]},
            "parameters": 9,
            "costs": [
                {"model": "maf", "work": "density", "batch": 1, "us": 2.0, "us_q1": 1.0, "us_q3": 3.0}
                | {"first_us": 9.0, "runs": 5, "floor_us": 0.5},
            ],
        }
    ],
    "exponents": [],
    "environment": ENVIRONMENT.model_dump(),
    "started_at": "2026-01-02T03:04:05+00:00",
    "total_seconds": 1.0,
}


def test_times_of_the_first_schema_are_read(tmp_path):
    (tmp_path / "time.json").write_text(json.dumps(TIMES_V1))
    record = costs.read(tmp_path / "time.json")
    assert (record.schema_version, record.shapes[0].costs[0].arithmetic_us) == (2, 0.5)
    assert costs.read(costs.write(record, tmp_path)) == record


@pytest.mark.parametrize("shapes", [3, [3], [{"costs": 3}], [{"costs": [3]}], None])
def test_damaged_times_are_named(tmp_path, shapes):
    (tmp_path / "time.json").write_text(json.dumps(TIMES_V1 | {"shapes": shapes}))
    with pytest.raises(store.UnreadableRecordError, match=r"time\.json is not a record"):
        costs.read(tmp_path / "time.json")


def test_a_record_of_times_is_no_run(tmp_path, capsys):
    (tmp_path / "named-otherwise.json").write_text(json.dumps(TIMES_V1))
    store.write(full_record(run="time-series"), tmp_path)
    assert [record.run for record in store.read_all(tmp_path).values()] == ["time-series"]
    assert capsys.readouterr().err == ""
