"""One table for each data, its best chosen on validation rows, with what it may be held against."""

import pytest
from ranking_cases import SIZE, line_of, only, run, shown
from records import ENVIRONMENT, by_path, full_record, make_record, timing

from flowbench.errors import NothingToCompareError
from flowbench.report.ranking.tables import tables
from flowbench.results.record import Estimate


def flows(table):
    return [line.record.task.flow for line in table.lines]


def nats(table):
    return [line.test_ll_nats and line.test_ll_nats.mean for line in table.lines]


class TestData:
    def test_nothing_is_its_own_error_with_a_hint(self):
        with pytest.raises(NothingToCompareError) as caught:
            tables({})
        assert caught.value.exit_code == 3
        assert "flowbench train" in caught.value.hint

    def test_there_is_one_table_for_each(self):
        records = [run(data="patches"), run(data="digits"), run("iaf", data="patches")]
        assert [(table.task.data, len(table.lines)) for table in tables(by_path(records))] == [
            ("digits", 1),
            ("patches", 2),
        ]

    def test_partial_data_is_other_data(self):
        names = [table.name for table in tables(by_path([run(), run(data="power~256869", partial=True)]))]
        assert names == ["power", "power~256869"]

    @pytest.mark.parametrize("change", [{"data_version": 2}, {"data_fingerprint": "other-data"}])
    def test_other_data_of_one_name_has_its_own_table_and_best(self, change):
        found = tables(by_path([run(nats=1.0), run("iaf", nats=0.5, **change)]))
        assert sorted(table.best.record.task.flow for table in found) == ["iaf", "maf"]
        assert {table.name for table in found} == {
            "power (v1 f00dbe)",
            f"power (v{change.get('data_version', 1)} {change.get('data_fingerprint', 'f00dbe')[:6]})",
        }
        assert only([run()]).name == "power"

    def test_only_those_asked_for(self):
        records = by_path([run(), run("iaf"), run(data="power~9"), run(data="gas")])
        assert [table.task.data for table in tables(records, data="power")] == ["power", "power~9"]
        assert [table.task.data for table in tables(records, data="power~9")] == ["power~9"]
        assert [flows(table) for table in tables(records, flow="iaf")] == [["iaf"]]

    @pytest.mark.parametrize(
        ("chosen", "message", "hint"),
        [
            ({"data": "pwer"}, "no run is on the data 'pwer'", "did you mean power?"),
            ({"flow": "mav"}, "no run is of the flow 'mav'", "did you mean maf?"),
            ({"data": "gas", "flow": "iaf"}, "no run is of the flow 'iaf' on the data 'gas'", "there are: maf"),
        ],
    )
    def test_a_filter_that_matches_nothing_says_what_there_is(self, chosen, message, hint):
        with pytest.raises(NothingToCompareError, match=message) as caught:
            tables(by_path([run(), run("iaf"), run(data="gas")]), **chosen)
        assert hint in caught.value.hint


class TestOrder:
    def test_validation_ranks_and_chooses_the_best(self):
        records = [run("maf", 2.0, validation_ll_nats=0.1), run("iaf", 1.0, validation_ll_nats=0.2)]
        table = only(records)
        assert flows(table) == ["iaf", "maf"]
        assert table.best.record.task.flow == "iaf"
        assert table.lines[1].to_best.mean == 1.0  # it is better on test rows, and still nobody selects on them

    def test_test_rows_do_if_asked(self):
        records = [run("maf", 2.0, validation_ll_nats=0.1), run("iaf", 1.0, validation_ll_nats=0.2)]
        table = only(records, sort="test")
        assert (flows(table), table.best.record.task.flow) == (["maf", "iaf"], "maf")

    def test_a_line_without_a_validation_likelihood_comes_after_those_with_one(self):
        unknown = {"validation_ll_nats": None}
        table = only([run("maf", 9.0, **unknown), run("iaf", 1.0), run("realnvp", 8.0, **unknown), run("x", None)])
        assert flows(table) == ["iaf", "maf", "realnvp", "x"]
        assert not any("chosen on test rows" in note for note in table.notes)
        assert any("chosen on test rows" in note for note in only([run(**unknown)]).notes)

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            ("density", ["realnvp", "iaf", "maf"]),
            ("sampling", ["iaf", "maf", "realnvp"]),
            ("train", ["maf", "realnvp", "iaf"]),
            ("name", ["iaf", "maf", "realnvp"]),
        ],
    )
    def test_other_orders_leave_the_best_where_it_is(self, sort, expected):
        def costs(density, sampling):
            return [timing(100, 1.0, 1.0), timing(1000, density, sampling)]

        records = [
            run("maf", 0.9, timings=costs(3.0, 2.0), train_seconds=1.0),
            run("iaf", 0.8, timings=costs(2.0, 1.0), train_seconds=3.0),
            run("realnvp", 0.7, timings=costs(1.0, 3.0), train_seconds=2.0),
            run("x", None, status="failed"),
        ]
        table = only(records, sort=sort)
        assert flows(table) == [*expected, "x"]
        assert table.best.record.task.flow == "maf"

    def test_equals_are_in_a_fixed_order(self):
        records = [run("realnvp", 1.0), run("maf", 1.0, settings={"a": 2}), run("maf", 1.0, settings={"a": 1})]
        for given in (records, records[::-1]):
            lines = only(given).lines
            assert [(line.record.task.flow, line.settings.get("a")) for line in lines] == [
                ("maf", "1"),
                ("maf", "2"),
                ("realnvp", None),
            ]

    def test_the_mean_over_seeds_ranks(self):
        records = [run(seed=seed, nats=each) for seed, each in enumerate((0.0, 2.0))] + [run("iaf", 1.5)]
        assert nats(only(records)) == [1.5, 1.0]

    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_a_run_that_did_not_end_well_is_shown_without_its_figures(self, status):
        reached = Estimate(mean=99.0, stderr=99.0, stderr_by_group=99.0)
        bad = full_record(run="maf-bad", status=status, error="epoch 3: loss was nan\ntrace", test_ll_nats=reached)
        table = only([bad, run("iaf", 0.5)])
        assert (flows(table), nats(table)) == (["iaf", "maf"], [0.5, None])
        assert (table.lines[1].to_best, table.lines[1].costs()) == (None, {})
        assert table.references == ()
        assert f"maf-bad {status}: epoch 3: loss was nan" in table.notes
        text = shown([bad, run("iaf", 0.5)])
        assert status in line_of(text, "maf 5")  # for its nats
        assert "99" not in text

    def test_a_table_of_failed_runs_alone_is_shown(self):
        text = shown([run(nats=0.8125, status="diverged", data="patches", run="bad")], width=80)
        assert "diverged" in text
        assert "0.8" not in text


class TestBeside:
    def test_published_numbers_stand_beside_published_data(self):
        entries = only([run()]).published
        assert {entry.model for entry in entries} > {"MAF (5)", "RQ-NSF (AR)"}
        assert not any(entry.conditional for entry in only([run(data="mnist", dim=784, n_test=10_000)]).published)

    def test_flows_that_were_given_the_class_stand_beside_those_that_were_too(self):
        averaged = Estimate(mean=-1250.0, stderr=1.0)
        about = {"data": "mnist-given-label", "given": {"label": 10}, "dim": 784, "n_test": 10_000}
        own = run(nats=-1243.0, class_averaged_test_ll_nats=averaged, **about)
        entries = only([own]).published
        assert entries
        assert all(entry.conditional for entry in entries)
        text = shown([own], width=200)
        assert "-1302.9" in line_of(text, "MAF (5)")
        assert "the mean over classes" in text
        ours = line_of(text, "maf 5")
        theirs = line_of(text, "MAF (5)")
        assert ours.index("-1250") + len("-1250") == theirs.index("-1302") + len("-1302")  # in the same column

    @pytest.mark.parametrize(
        ("changes", "note"),
        [
            ({"data": "power~256869", "partial": True, "n_test": 25_686}, "partial data"),
            ({"data": "power~2049280"}, "partial data"),
            ({"partial": True}, "partial data"),
            ({"n_test": 25_686}, "204,928 test rows"),
            ({"dim": 5}, "6 columns"),
        ],
    )
    def test_other_data_gets_no_published_number(self, changes, note):
        table = only([run(**changes)])
        assert table.published == ()
        assert any(note in each for each in table.notes)
        assert "MAF (5)" not in shown([run(**changes)])

    def test_a_rebuilt_set_is_said_to_be_one(self):
        table = only([make_record(data="bsds300", dim=63, n_test=250_000, space="patch")])
        assert table.published
        assert any("not bit for bit" in note for note in table.notes)

    def test_truth_and_gaussian_are_references(self):
        known = {"true_test_ll_nats": -5.0, "gaussian_test_ll_nats": Estimate(mean=-9.0, stderr=0.1)}
        references = only([run(data="truth-ar", **known), run("iaf", data="truth-ar", **known)]).references
        expected = ("truth", Estimate(mean=-5.0)), ("fitted Gaussian", Estimate(mean=-9.0, stderr=0.1))
        assert [(entry.model, entry.test_ll_nats) for entry in references] == list(expected)

    def test_a_run_of_the_gaussian_is_its_own_reference(self):
        gaussian = {"gaussian_test_ll_nats": Estimate(mean=-7.74, stderr=0.01)}
        assert only([run(**gaussian), run("gaussian", -7.74, **gaussian)]).references == ()

    @pytest.mark.parametrize(
        "change",
        [{"device": "cuda", "device_name": "H100"}, {"threads": 8}, {"device_name": "x"}, {"dtype": "float64"}],
    )
    def test_times_of_other_machines_get_a_note(self, change):
        here, there = run(seed=0), run(seed=1, environment=ENVIRONMENT.model_copy(update=change))
        assert any("times" in note for note in only([here, there]).notes)
        assert not any("times" in note for note in only([here, run(seed=1)]).notes)

    @pytest.mark.parametrize(
        ("config", "label"),
        [
            (SIZE, "maf 5 × (2×100)"),
            ({"transforms": 10, "hidden": [1024]}, "maf 10 × (1×1024)"),
            ({"transforms": 5, "hidden": (100, 50)}, "maf 5 × (100-50)"),
            ({"transforms": 5, "hidden": []}, "maf 5 × (linear)"),
            ({}, "maf"),
        ],
    )
    def test_a_model_is_called_by_its_flow_and_size(self, config, label):
        assert only([run(config=config)]).lines[0].model == label
