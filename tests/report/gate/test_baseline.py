"""The baseline's folder: what accepting does to it, and how large it is."""

from __future__ import annotations

import pytest
from gate_cases import rows, verdicts, write_run
from records import ENVIRONMENT
from sketch_cases import sketch

from flowbench.errors import NothingToCompareError, UsageError
from flowbench.report.gate.baseline import Comparison
from flowbench.results import store


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "new", tmp_path / "baseline"


def of_code(digest):
    return ENVIRONMENT.model_copy(update={"code_digest": digest, "git_revision": digest})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def _interrupted(*_):
    raise KeyboardInterrupt


class TestAccept:
    def test_the_new_runs_take_the_place_of_the_old(self, folders):
        new, baseline = folders
        for seed in (0, 1, 2):
            write_run(baseline, rows(seed), seed, run=f"old{seed}", environment=of_code("old"))
        write_run(new, rows(0, loss=1), 0, run="new0", environment=of_code("new"))
        assert Comparison(new, baseline).accept() == (["maf 5 × (2×100) on d"], [])
        assert [path.stem for path in store.read_all(baseline)] == ["new0"]
        assert len(names(baseline)) == 2  # the rows of the old ones are gone as well
        assert verdicts(new, baseline) == ["same"]

    def test_weights_and_sketches_are_not_taken(self, folders):
        new, baseline = folders
        store.write(store.read(write_run(new, rows())), new, rows(), b"weights", sketch())
        assert len(names(new)) == 4
        Comparison(new, baseline).accept()
        (record,) = store.read_all(baseline).values()
        assert (record.files.weights, record.files.sketch) == (None, None)
        assert names(baseline) == sorted([f"{record.run}.json", record.files.test_lls])

    def test_what_has_no_new_run_stays(self, folders):
        new, baseline = folders
        write_run(baseline, rows(), flow="iaf")
        write_run(new, rows())
        Comparison(new, baseline).accept()
        assert verdicts(new, baseline) == ["missing", "same"]

    def test_other_data_are_accepted(self, folders):
        new, baseline = folders
        write_run(baseline, rows(), data_fingerprint="before", run="before")
        write_run(new, rows(), data_fingerprint="now", run="now")
        assert verdicts(new, baseline) == ["incomparable"]
        Comparison(new, baseline).accept()
        assert verdicts(new, baseline) == ["same"]

    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_a_run_that_did_not_end_well_is_not(self, folders, status):
        new, baseline = folders
        write_run(baseline, rows())
        write_run(new, None, status=status, error="nan")
        before = names(baseline)
        taken, left = Comparison(new, baseline).accept()
        assert (taken, [(each.what, each.verdict) for each in left]) == ([], [("maf 5 × (2×100) on d", status)])
        assert names(baseline) == before

    def test_nothing_is_written_before_everything_is_read(self, folders):
        new, baseline = folders
        write_run(new, rows(), flow="iaf")
        write_run(new, rows(), flow="maf")
        next(new.glob("maf*.npy")).write_bytes(b"")
        taken, left = Comparison(new, baseline).accept()
        assert (len(taken), [each.verdict for each in left]) == (1, ["damaged"])
        assert [record.task.flow for record in store.read_all(baseline).values()] == ["iaf"]

    def test_runs_without_their_rows_are_not(self, folders):
        new, baseline = folders
        write_run(baseline, rows(), run="before")
        write_run(new, rows())
        next(new.glob("*.npy")).unlink()
        assert Comparison(new, baseline).accept()[1][0].notes == ("there is no file of the rows' likelihoods",)
        assert [record.run for record in store.read_all(baseline).values()] == ["before"]

    def test_a_seed_s_runs_on_two_machines_are_both_kept(self, folders):
        new, baseline = folders
        for machine in ("a", "b"):
            where = ENVIRONMENT.model_copy(update={"device_name": machine})
            write_run(new / machine, rows(spread=ord(machine) / 1e3), environment=where)
        Comparison(new, baseline).accept()
        assert len(store.read_all(baseline)) == 2
        assert verdicts(new, baseline) == ["same"]

    def test_interrupted_it_has_both(self, folders, monkeypatch):
        new, baseline = folders
        write_run(baseline, rows(), run="before")
        write_run(new, rows(loss=1), run="now")
        monkeypatch.setattr("flowbench.report.gate.baseline.remove", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            Comparison(new, baseline).accept()
        assert {record.run for record in store.read_all(baseline).values()} == {"before", "now"}

    def test_only_what_is_chosen(self, folders):
        new, baseline = folders
        for flow in ("maf", "iaf"):
            write_run(new, rows(), flow=flow)
        assert Comparison(new, baseline, flow="iaf").accept()[0] == ["iaf 5 × (2×100) on d"]


def test_a_run_of_ten_thousand_rows_is_less_than_100_kb(folders):
    write_run(folders[0], rows(n=10_000))
    Comparison(*folders).accept()
    assert sum(path.stat().st_size for path in folders[1].iterdir()) < 100_000


@pytest.mark.parametrize(("new", "baseline"), [("r", "r"), ("r", "x/../r"), ("r/new", "r"), ("r", "r/ci")])
def test_a_folder_is_not_held_against_itself(tmp_path, new, baseline):
    with pytest.raises(UsageError, match="itself"):
        Comparison(tmp_path / new, tmp_path / baseline)


def test_nothing_on_both_sides(folders):
    with pytest.raises(NothingToCompareError):
        Comparison(*folders)


def test_a_partial_dataset_is_chosen_by_its_name(folders):
    for folder in folders:
        write_run(folder, rows(), data="power~100")
        write_run(folder, rows(), data="powerful")
    assert verdicts(*folders, data="power") == ["same"]
