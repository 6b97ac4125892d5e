"""The gate's verdicts on likelihoods."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gate_cases import ROWS, findings, rows, verdicts, write_run

from flowbench.report.gate.findings import exit_code


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "new", tmp_path / "baseline"


def runs(folder, seeds, **changes):
    row = {key: changes.pop(key) for key in ("loss", "spread", "n", "between_seeds") if key in changes}
    for seed in seeds:
        write_run(folder, rows(seed, **row), seed, **changes)


class TestVerdict:
    def test_the_same_bits_are_the_same(self, folders):
        for folder in folders:
            runs(folder, [0])
        (found,) = findings(*folders)
        assert (found.verdict, found.measured.change, found.notes) == ("same", 0.0, ("the same bits",))
        assert found.measured.least_found == 0.02

    def test_also_of_several_seeds_that_differ(self, folders):
        runs(folders[0], [0, 1], between_seeds=0.3)
        runs(folders[1], [0, 1, 2], between_seeds=0.3)
        for margin in (0.0, 0.02):
            (found,) = findings(*folders, max_nats=margin)
            assert (found.verdict, found.measured.change) == ("same", 0.0)

    def test_seeds_alone_are_the_same(self, folders):
        runs(folders[0], range(5, 8))
        runs(folders[1], range(5))
        assert verdicts(*folders) == ["same"]

    @pytest.mark.parametrize(("loss", "verdict"), [(0.05, "worse"), (-0.05, "better"), (0.015, "same")])
    def test_beyond_the_margin_and_not_by_chance(self, folders, loss, verdict):
        runs(folders[0], range(5, 8), loss=loss)
        runs(folders[1], range(5))
        assert verdicts(*folders) == [verdict]

    def test_the_margin_is_the_user_s(self, folders):
        runs(folders[0], range(5, 8), loss=0.05)
        runs(folders[1], range(5))
        assert verdicts(*folders, max_nats=0.1) == ["same"]
        assert verdicts(*folders, max_nats=0.04) == ["worse"]

    def test_what_varies_with_the_seed_is_no_loss(self, folders):
        # by the rows alone the difference would be a hundred standard errors
        runs(folders[0], [5], between_seeds=0.5, loss=0.3)
        runs(folders[1], range(5), between_seeds=0.5)
        (found,) = findings(*folders)
        assert found.verdict == "undecided"
        assert found.measured.least_found > 1

    def test_without_seeds_a_difference_that_seeds_could_make_is_undecided(self, folders):
        runs(folders[0], [1], spread=0.4, loss=0.1)
        runs(folders[1], [0], spread=0.4)
        (found,) = findings(*folders)
        assert found.verdict == "undecided"
        assert "one seed a side" in found.notes[0]

    def test_without_seeds_a_loss_that_no_seed_could_make_is_found(self, folders):
        runs(folders[0], [1], loss=0.05)
        runs(folders[1], [0])
        assert verdicts(*folders) == ["worse"]

    def test_the_level_is_of_the_whole_table(self, folders):
        """A loss at z of about 2.6: not by chance in a table of one line, but one of forty lines may well have it."""
        loss = 2.6 * 0.005 * math.sqrt(2) / math.sqrt(ROWS)

        def table(lines):
            for line in range(lines):
                write_run(folders[1], rows(line), data=f"d{line}")
                own = loss if line == 0 else 0.0
                write_run(folders[0], rows(line) + _noise(line, own), data=f"d{line}")
            return verdicts(*folders, max_nats=0.0)

        assert table(1) == ["worse"]
        assert table(40)[0] == "undecided"

    def test_one_row_tells_nothing(self, folders):
        for folder in folders:
            runs(folder, [0], n=1)
        runs(folders[0], [0], n=1, loss=1)
        (found,) = findings(*folders)
        assert found.verdict == "undecided"
        assert found.measured.least_found is None
        assert any("no loss of any size" in note for note in found.notes)


def _noise(line, loss):
    """Differences with exactly this mean loss and a standard error of 0.005·√2/√N."""
    noise = np.random.default_rng(line).normal(size=ROWS)
    return 0.005 * math.sqrt(2) * (noise - noise.mean()) / noise.std(ddof=1) - loss


class TestLeastFound:
    @pytest.mark.parametrize("sides", [(range(5), range(5, 8)), ([0], [1])])
    def test_a_loss_of_that_size_is_found(self, folders, sides):
        """In 95 of 100 cases; a half more than it in this one."""
        runs(folders[1], sides[0])
        runs(folders[0], sides[1])
        (found,) = findings(*folders)
        runs(folders[0], sides[1], loss=1.5 * found.measured.least_found)
        assert verdicts(*folders) == ["worse"]

    def test_it_is_what_is_found_in_95_of_100_cases(self):
        from flowbench.report.gate.likelihoods import LEVEL, _least_found
        from flowbench.results.inference import Difference

        rng = np.random.default_rng(0)
        n, true_stderr = 20, 0.01
        hits = []
        for _ in range(2_000):
            sample = rng.normal(0, true_stderr * math.sqrt(n), n)
            stderr = float(sample.std(ddof=1)) / math.sqrt(n)
            found = Difference(float(sample.mean()), stderr, n - 1, 0.0, 0)
            least = _least_found(Difference(0, true_stderr, n - 1, 0.0, 0), 0.0, 1)
            lower = Difference(found.mean - least, stderr, n - 1, 0.0, 0)
            hits.append(lower.p_above(0.0) <= LEVEL)
        assert 0.93 < np.mean(hits) < 0.98


class TestComparable:
    def test_other_data(self, folders):
        runs(folders[0], [0], data_fingerprint="aaaa")
        runs(folders[1], [0], data_fingerprint="bbbb")
        (found,) = findings(*folders)
        assert found.verdict == "incomparable"
        assert "other data: version 1 of bbbb before, version 1 of aaaa now" in found.notes[0]

    def test_one_seed_of_several_on_other_data(self, folders):
        runs(folders[1], [0, 1])
        runs(folders[0], [0])
        runs(folders[0], [1], data_fingerprint="other")
        found = findings(*folders)
        assert sorted(each.verdict for each in found) == ["incomparable", "same"]
        assert exit_code(found) == 3

    def test_another_seed_s_split_of_a_table_is_new(self, folders):
        runs(folders[1], [0], data_fingerprint="split 0")
        runs(folders[0], [0], data_fingerprint="split 0")
        runs(folders[0], [1], data_fingerprint="split 1")
        assert sorted(verdicts(*folders)) == ["new", "same"]

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_other_rows(self, folders, split):
        runs(folders[0], [0], rows_sha256={split: "1"})
        runs(folders[1], [0], rows_sha256={split: "2"})
        (found,) = findings(*folders)
        assert found.verdict == "incomparable"
        assert f"other {split} rows" in found.notes[0]

    def test_one_row_less(self, folders):
        runs(folders[0], [0], n_validation=4_999)
        runs(folders[1], [0], n_validation=5_000)
        (found,) = findings(*folders)
        assert found.notes == ("other validation rows: 5,000 before, 4,999 now",)

    def test_other_space(self, folders):
        runs(folders[0], [0], space="logit")
        runs(folders[1], [0], space="raw")
        assert verdicts(*folders) == ["incomparable"]

    def test_an_old_record_without_digests_is_comparable(self, folders):
        runs(folders[0], [0], rows_sha256={"test": "1"})
        runs(folders[1], [0])
        assert verdicts(*folders) == ["same"]

    def test_another_configuration_is_another_line(self, folders):
        runs(folders[0], [0], config={"learning_rate": 0.1})
        runs(folders[1], [0], config={"learning_rate": 0.2})
        assert sorted(verdicts(*folders)) == ["missing", "new"]

    def test_what_differs_is_spelt_out(self, folders):
        for folder in folders:
            for rate in (0.1, 0.2):
                runs(folder, [0], run=f"r{rate}", config_hash=f"{rate}", config={"learning_rate": rate, "patience": 3})
        assert [found.what for found in findings(*folders)] == [
            "maf on d, learning_rate=0.1",
            "maf on d, learning_rate=0.2",
        ]

    def test_a_setting_that_the_baseline_did_not_have_is_left_aside(self, folders):
        runs(folders[0], [0], config={"learning_rate": 0.1, "brand_new": 3})
        runs(folders[1], [0], config={"learning_rate": 0.1})
        (found,) = findings(*folders)
        assert found.verdict == "same"
        assert "brand_new" in found.notes[-1]

    def test_but_not_where_it_tells_two_runs_apart(self, folders):
        for value in (3, 4):
            runs(folders[0], [0], run=f"r{value}", config_hash=f"{value}", config={"brand_new": value})
        runs(folders[1], [0], config={})
        assert sorted(verdicts(*folders)) == ["missing", "new", "new"]

    def test_the_same_rows_are_the_same_data_whatever_they_were_made_from(self, folders):
        digests = dict.fromkeys(("train", "validation", "test"), "1")
        for folder, made_from in zip(folders, ("zip", "txt"), strict=True):
            runs(folder, [0], data_fingerprint=made_from, rows_sha256=digests)
        assert verdicts(*folders) == ["same"]

    def test_the_newest_code_of_a_folder_counts(self, folders):
        from records import ENVIRONMENT

        runs(folders[0], [0])
        runs(folders[1], [0])
        older = ENVIRONMENT.model_copy(update={"code_digest": "older"})
        runs(folders[1], [1], loss=-9, environment=older, started_at="2025-01-01T00:00:00+00:00")
        (found,) = findings(*folders)
        assert found.verdict == "same"
        assert "1 run of other code or seen twice left aside in the baseline" in found.notes

    def test_the_same_bits_on_two_machines_are_no_two_seeds(self, folders):
        from records import ENVIRONMENT

        for folder, loss in zip(folders, (0.1, 0.0), strict=True):
            for machine in ("a", "b"):
                where = ENVIRONMENT.model_copy(update={"device_name": machine})
                runs(folder, [0 if folder == folders[1] else 1], spread=0.4, loss=loss, run=machine, environment=where)
        (found,) = findings(*folders)
        assert found.verdict == "undecided"

    def test_without_the_rows_they_are_not_paired(self, folders):
        for folder in folders:
            path = write_run(folder, rows())
            next(folder.glob("*.npy")).unlink()
            assert path.is_file()
        (found,) = findings(*folders)
        assert found.verdict == "undecided"
        assert any("not paired" in note for note in found.notes)

    def test_without_the_rows_and_with_one_seed_nothing_is_known(self, folders):
        """However small the error over rows is."""
        for folder, mean in zip(folders, (-9.0, -3.0), strict=True):
            write_run(folder, None, test_ll_nats={"mean": mean, "stderr": 1e-6}, n_test=ROWS)
        (found,) = findings(*folders)
        assert (found.verdict, found.measured.least_found) == ("undecided", None)

    @pytest.mark.parametrize("value", [np.nan, -np.inf])
    def test_a_row_without_a_density(self, folders, value):
        lls = rows()
        runs(folders[1], [0])
        write_run(folders[0], np.where(np.arange(ROWS) == 5, value, lls))
        assert verdicts(*folders) == ["damaged"]


class TestWhatIsNotMeasured:
    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_a_run_that_did_not_end_well_is_named(self, folders, status):
        runs(folders[0], [0])
        write_run(folders[0], None, 1, status=status, error="the loss is nan\nand more")
        runs(folders[1], [0, 1])
        (found,) = findings(*folders)
        assert (found.verdict, found.notes) == (status, ("seed 1: the loss is nan",))
        assert exit_code([found]) == (3 if status == "interrupted" else 1)

    def test_also_where_the_baseline_has_no_such_run(self, folders):
        runs(folders[1], [0])
        runs(folders[0], [0])
        write_run(folders[0], None, flow="iaf", status="diverged", error="nan")
        assert verdicts(*folders) == ["diverged", "same"]

    def test_a_later_divergence_is_not_hidden_by_an_earlier_end(self, folders):
        runs(folders[1], [0])
        runs(folders[0], [0])
        write_run(folders[0], None, run="maf-d-0-diverged", status="diverged", started_at="2026-02-01T00:00:00+00:00")
        assert verdicts(*folders) == ["diverged"]

    def test_a_baseline_that_diverged_is_nothing_to_be_held_against(self, folders):
        runs(folders[0], [0])
        write_run(folders[1], None, status="diverged", error="nan")
        (found,) = findings(*folders)
        assert found.verdict == "incomparable"
        assert "diverged" in found.notes[0]

    def test_missing_and_new(self, folders):
        runs(folders[0], [0], flow="iaf")
        runs(folders[1], [0], flow="maf")
        assert verdicts(*folders) == ["new", "missing"]

    def test_a_damaged_record(self, folders):
        for folder in folders:
            runs(folder, [0])
        (folders[0] / "maf-d-9.json").write_text("{")
        found = findings(*folders)
        assert [each.verdict for each in found] == ["same", "damaged"]
        assert "maf-d-9" in found[1].what
        assert exit_code(found) == 3

    @pytest.mark.parametrize("damage", [b"", b"\x93NUMPY nonsense", None])
    def test_damaged_rows(self, folders, damage):
        for folder in folders:
            runs(folder, [0])
        path = next(folders[0].glob("*.npy"))
        content = bytearray(path.read_bytes())
        content[-1] ^= 1  # one bit
        path.write_bytes(bytes(content) if damage is None else damage)
        assert verdicts(*folders) == ["damaged"]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["same"], 0),
        (["same", "better", "new"], 0),
        (["same", "worse", "undecided"], 1),
        (["same", "diverged"], 1),
        (["missing", "failed"], 1),
        (["same", "undecided"], 3),
        (["same", "missing"], 3),
        (["same", "incomparable"], 3),
        (["same", "damaged"], 3),
        (["same", "interrupted"], 3),
        (["new"], 3),
        ([], 3),
    ],
)
def test_the_exit_code(verdicts, code):
    from flowbench.report.gate.findings import Finding

    assert exit_code([Finding("x", verdict) for verdict in verdicts]) == code
