"""A line is a configuration: its seeds, their three kinds of spread, its difference to the best."""

import statistics

import numpy as np
import pytest
from ranking_cases import only, read, rows, run, write_run
from records import ENVIRONMENT, timing

from flowbench import config
from flowbench.report.ranking.lines import paired
from flowbench.results import store
from flowbench.results.inference import difference
from flowbench.results.record import Estimate
from flowbench.results.statistics import mean_and_stderr, paired_difference


def marks(table):
    return {line.record.task.flow: line.mark for line in table.lines}


class TestSeeds:
    def test_the_seeds_of_a_configuration_are_one_line(self):
        table = only([run(seed=seed, nats=nats) for seed, nats in enumerate((0.5, 0.6, 0.9))] + [run("iaf", 0.1)])
        assert [(line.record.task.flow, line.seeds) for line in table.lines] == [("maf", [0, 1, 2]), ("iaf", [0])]

    def test_mean_spread_and_error_are_three_things(self, tmp_path):
        lls = [rows(mean, seed=seed) for seed, mean in enumerate((0.0, 0.3, -0.1))]
        for seed, each in enumerate(lls):
            write_run(tmp_path, lls=each, seed=seed, validation_ll_nats=float(seed))
        (line,) = read(tmp_path).lines
        assert line.test_ll_nats.mean == pytest.approx(0.2 / 3, abs=1e-6)
        assert line.test_ll_nats.seeds_sd == pytest.approx(statistics.stdev((0.0, 0.3, -0.1)), abs=1e-6)
        assert line.test_ll_nats.stderr == mean_and_stderr(np.mean(lls, axis=0))[1]
        assert (line.validation_ll_nats.mean, line.validation_ll_nats.seeds_sd) == (1.0, 1.0)

    def test_of_one_seed_there_is_no_spread_over_seeds(self):
        (line,) = only([run(nats=0.5)]).lines
        assert (line.test_ll_nats.seeds_sd, line.test_ll_nats.stderr) == (None, 0.0063)

    def test_without_rows_the_error_is_no_less_than_it_can_be(self, tmp_path):
        lls = [rows(mean, spread=20, seed=seed) for seed, mean in enumerate((0.0, 0.3))]
        for seed, each in enumerate(lls):
            write_run(tmp_path, lls=each, seed=seed)
        known = read(tmp_path).lines[0].test_ll_nats.stderr
        for path in tmp_path.glob("*.npy"):
            path.unlink()
        bound = read(tmp_path).lines[0].test_ll_nats.stderr
        assert bound == statistics.fmean(mean_and_stderr(each)[1] for each in lls)
        assert bound > known

    def test_costs_are_medians_over_seeds(self):
        seeds = [
            run(seed=seed, train_seconds=cost, timings=[timing(100, cost, 2 * cost)])
            for seed, cost in enumerate((9, 1, 2))
        ]
        (line,) = only(seeds).lines
        assert (line.train_seconds, line.costs()) == (2, {100: (2, 4)})

    def test_a_seed_that_did_not_end_well_has_no_part_in_the_figures(self):
        bad = run(seed=1, nats=99.0, status="diverged", error="nan")
        table = only([run(nats=0.5), bad])
        (line,) = table.lines
        assert (line.test_ll_nats.mean, line.seeds, len(line.runs)) == (0.5, [0], 2)
        assert "maf-1-99.0 diverged: nan" in table.notes

    @pytest.mark.parametrize(
        "change",
        [
            {"settings": {"learning_rate": 0.1}},
            {"recipe": "paper"},
            {"environment": ENVIRONMENT.model_copy(update={"threads": 8})},
            {"environment": ENVIRONMENT.model_copy(update={"device_name": "other"})},
            {"environment": ENVIRONMENT.model_copy(update={"dtype": "float64"})},
            {"environment": ENVIRONMENT.model_copy(update={"code_digest": "other"})},
        ],
    )
    def test_what_is_no_seed_is_another_line(self, change):
        assert len(only([run(seed=0), run(seed=1)]).lines) == 1
        assert len(only([run(seed=0), run(seed=1, **change)]).lines) == 2

    def test_the_same_run_found_twice_is_one_line_and_one_seed(self):
        earlier = run(nats=0.1, started_at="2026-01-01T00:00:00+00:00")
        (line,) = only([earlier, run(nats=0.3, config_hash=earlier.setup.config_hash)]).lines
        assert (line.test_ll_nats.mean, line.seeds) == (0.3, [0])

    def test_a_seed_is_in_a_line_once(self):
        """The file of a flow from outside the package may have changed: the settings are the same, the hash is not."""
        assert [line.seeds for line in only([run(), run(nats=0.7, config_hash="other")]).lines] == [[0], [0]]


class TestDifference:
    @pytest.fixture
    def three(self, tmp_path):
        """MAF is best; IAF is not told from it, RealNVP is."""
        for flow, mean in {"maf": 0.0, "iaf": -0.003, "realnvp": -0.2}.items():
            write_run(tmp_path, flow, rows(mean))
        return tmp_path

    def test_it_has_the_error_of_the_paired_differences(self, three):
        best, tied, below = read(three).lines
        own, its = (store.read_test_lls(line.record, three) for line in (below, best))
        mean, stderr = paired_difference(own, its)
        assert best.to_best is None
        assert below.to_best.mean == mean == pytest.approx(-0.2, abs=1e-5)
        assert below.to_best.difference.stderr == stderr < 0.01  # the separate errors are 0.3
        assert tied.to_best.difference.rows_stderr == tied.to_best.difference.stderr

    def test_what_may_be_chance_is_tied(self, three):
        assert marks(read(three)) == {"maf": "best", "iaf": "tied", "realnvp": ""}

    def test_many_lines_are_adjusted_for(self, tmp_path):
        write_run(tmp_path, lls=rows(0.0))
        write_run(tmp_path, "iaf", rows(-0.011))
        (line,) = read(tmp_path, flow=None).lines[1:]
        assert line.mark == ""
        single = line.to_best.p
        for n in range(20):
            write_run(tmp_path, "realnvp", rows(-0.0005 * n), settings={"learning_rate": n})
        line = next(line for line in read(tmp_path).lines if line.record.task.flow == "iaf")
        assert (line.mark, line.to_best.p > 5 * single) == ("tied", True)

    def test_of_several_seeds_it_counts_how_they_scatter(self, tmp_path):
        lls = {flow: [rows(mean + 0.1 * n, seed=n) for n in range(3)] for flow, mean in (("maf", 0.0), ("iaf", -0.05))}
        for flow, of_seeds in lls.items():
            for seed, each in enumerate(of_seeds):
                write_run(tmp_path, flow, each, seed)
        line = read(tmp_path).lines[1]
        assert line.to_best.difference == difference(lls["iaf"], lls["maf"])
        assert line.to_best.difference.seeds_stderr == pytest.approx(0.1 * np.sqrt(2 / 3), abs=1e-4)
        assert line.mark == "tied"
        alone = paired(lls["iaf"][:1], lls["maf"][:1])
        assert (alone.seeds_stderr, alone.stderr) == (None, alone.rows_stderr)

    def test_equal_rows_are_tied(self, tmp_path):
        for flow in ("maf", "iaf"):
            write_run(tmp_path, flow, rows())
        table = read(tmp_path)
        assert sorted(line.mark for line in table.lines) == ["best", "tied"]
        assert table.lines[1].to_best.mean == 0

    @pytest.mark.parametrize(
        "change",
        ["none", "rows", "damaged", {"rows_sha256": {"test": "other"}}, {"rows_sha256": {"test": "the best's"}}],
    )
    def test_without_the_same_rows_there_is_a_difference_but_no_error_and_no_tie(self, tmp_path, change, capsys):
        same = {"rows_sha256": {"test": "the best's"}}
        write_run(tmp_path, lls=rows(0.5), **same)
        lls = rows(0.4, n=999 if change == "rows" else 1000)
        path = write_run(tmp_path, "iaf", lls, **(change if isinstance(change, dict) else same))
        beside = tmp_path / store.read(path).files.test_lls
        if change == "none":
            beside.unlink()
        if change == "damaged":
            beside.write_bytes(b"no array")
        table = read(tmp_path)
        line = table.lines[1]
        assert line.to_best.mean == pytest.approx(-0.1, abs=1e-5)
        is_paired = change == same
        assert (line.to_best.difference is not None, line.to_best.p is not None) == (is_paired, is_paired)
        assert line.mark == ""
        assert any("to best without ±" in note for note in table.notes) != is_paired
        assert ("damaged" in capsys.readouterr().err) == (change == "damaged")

    def test_single_seeds_are_said_to_be_single(self, three):
        assert any(note.startswith("of one seed") for note in read(three).notes)
        for flow, mean in {"maf": 0.01, "iaf": -0.003, "realnvp": -0.2}.items():
            write_run(three, flow, rows(mean, seed=1), seed=1)
        assert not any(note.startswith("of one seed") for note in read(three).notes)

    def test_rows_are_not_kept(self, three):
        for line in read(three).lines:
            assert all("test_lls" not in vars(run) for run in line.runs)


class TestBelowGaussian:
    gaussian = Estimate(mean=-1.0, stderr=0.1)

    @pytest.mark.parametrize(("nats", "below"), [(-1.01, True), (-1.0, False), (-0.99, False)])
    def test_a_flow_is_held_against_the_gaussian_of_its_own_data(self, nats, below):
        table = only([run(nats=nats, gaussian_test_ll_nats=self.gaussian)])
        assert table.lines[0].is_below_gaussian == below
        assert any("below its Gaussian" in note for note in table.notes) == below

    def test_the_gaussian_itself_is_not(self):
        assert not only([run("gaussian", -1.01, gaussian_test_ll_nats=self.gaussian)]).lines[0].is_below_gaussian


class TestSettings:
    def spelt_out(self, *settings, flow="maf"):
        records = [run(flow, nats=-n, settings=each) for n, each in enumerate(settings)]
        return [line.settings for line in only(records).lines]

    def test_what_differs_is_spelt_out_as_set_takes_it(self):
        first = {"learning_rate": 0.01, "clip_norm": None, "batch_norm": True, "x": 1, "widths": [1, 2]}
        second = {"learning_rate": 1e-8, "clip_norm": 5.0, "batch_norm": False, "x": 1, "widths": [1]}
        found = self.spelt_out(first, second)
        assert found == [
            {"learning_rate": "0.01", "clip_norm": "none", "batch_norm": "true", "widths": "1,2"},
            {"learning_rate": "1e-08", "clip_norm": "5.0", "batch_norm": "false", "widths": "1"},
        ]
        read_back = [config.user_layers(None, [f"{k}={v}" for k, v in each.items()]) for each in found]
        assert read_back == [
            {"learning_rate": 0.01, "clip_norm": "none", "batch_norm": True, "widths": [1, 2]},
            {"learning_rate": 1e-8, "clip_norm": 5.0, "batch_norm": False, "widths": 1},
        ]

    def test_what_the_models_name_says_is_not_repeated(self):
        assert self.spelt_out({"hidden": [8]}, {"transforms": 2}) == [{}, {}]
        assert self.spelt_out({"hidden": [8], "transforms": None}, {"transforms": None}) == [
            {"hidden": "8"},
            {"hidden": "100,100"},
        ]

    def test_flows_are_not_held_against_each_other(self):
        lines = only([run(settings={"a": 1}), run("iaf", settings={"a": 2}), run("iaf", 0.1, settings={"a": 3})]).lines
        assert [line.settings for line in lines if line.record.task.flow == "maf"] == [{}]
        assert {line.settings["a"] for line in lines if line.record.task.flow == "iaf"} == {"2", "3"}

    def test_a_setting_that_one_does_not_know_differs(self):
        assert self.spelt_out({}, {"new": 1}) == [{}, {"new": "1"}]
