"""What a sweep chose is decided on validation rows alone, and kept in a file of its own."""

import itertools
import json
import random

import pytest
from records import ENVIRONMENT, make_record

from flowbench.results import store, sweeps
from flowbench.results.sweeps import Sweep, passed_over, pick

ORDERED = {"flows": ["maf"], "grid": {"learning_rate": [0.1, float("inf")]}, "pick": True}


def sweep(name="sweep-1", **changes):
    fields = {"name": name, "started_at": "2026-01-02T03:04:05+00:00", "ordered": ORDERED, "runs": ["a", "b"]}
    return Sweep(**fields | {"chosen": ["a"], "not_chosen": ["b"]} | changes)


def seeds(setting, *nats, flow="maf", data="mine", **changes):
    """Runs of one configuration, a seed for each validation likelihood; one that is a status ended so."""
    ended = [{"status": each} if isinstance(each, str) else {"validation_ll_nats": each} for each in nats]
    return [
        make_record(
            **{"run": f"{flow}-{data}-{setting}-{seed}", "flow": flow, "data": data, "seed": seed}
            | {"config": {"learning_rate": setting}}
            | own
            | changes
        )
        for seed, own in enumerate(ended)
    ]


def settings_of(names):
    return {name.split("-")[2] for name in names}


class TestFiles:
    def test_what_is_written_is_read_again(self, tmp_path):
        path = sweeps.write(sweep(), tmp_path / "new")
        assert path == tmp_path / "new" / "sweep-1.json"
        assert sweeps.read_all(tmp_path) == [sweep()]
        document = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert (document["kind"], document["ordered"]["grid"]["learning_rate"]) == ("sweep", [0.1, "inf"])

    def test_a_sweep_takes_the_place_of_an_earlier_one_of_its_name(self, tmp_path):
        sweeps.write(sweep(), tmp_path)
        sweeps.write(sweep(chosen=["b"], not_chosen=["a"]), tmp_path)
        assert [each.chosen for each in sweeps.read_all(tmp_path)] == [["b"]]

    def test_runs_and_sweeps_are_told_apart_whatever_their_names_are(self, tmp_path):
        store.write(make_record(run="sweep-power-1"), tmp_path)
        sweeps.write(sweep("maf-power-2"), tmp_path / "below")
        runs, found = sweeps.with_runs(tmp_path)
        assert ([record.run for record in runs.values()], found) == (["sweep-power-1"], [sweep("maf-power-2")])
        assert store.read_all(tmp_path) == runs

    def test_each_file_is_read_once(self, tmp_path, monkeypatch):
        store.write(make_record(), tmp_path)
        read, content = [], store.content
        monkeypatch.setattr(store, "content", lambda path: read.append(path.name) or content(path))
        assert len(sweeps.with_runs(tmp_path)[0]) == 1
        assert read == [f"{make_record().run}.json"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('{"kind": "sweep"', "JSON"),
            ('{"kind": "sweep", "schema_version": 2}', "name"),
            ('{"kind": "sweep", "schema_version": 99}', "schema version 99"),
        ],
    )
    def test_a_damaged_or_newer_one_is_warned_of_and_passed_over(self, tmp_path, capsys, content, said):
        sweeps.write(sweep(), tmp_path)
        store.write(make_record(), tmp_path)
        (tmp_path / "bad.json").write_text(content)
        runs, found = sweeps.with_runs(tmp_path)
        assert (len(runs), found) == (1, [sweep()])
        warned = capsys.readouterr().err
        assert ("bad.json" in warned, said in warned, warned.count("passed over")) == (True, True, 1)

    def test_records_of_other_kinds_are_passed_over_silently(self, tmp_path, capsys):
        (tmp_path / "ranking.json").write_text('{"kind": "ranking", "schema_version": 99}')
        assert sweeps.with_runs(tmp_path) == ({}, [])
        assert capsys.readouterr().err == ""

    def test_fields_that_a_newer_flowbench_added_are_no_damage(self, tmp_path):
        path = sweeps.write(sweep(), tmp_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
        assert sweeps.read_all(tmp_path) == [sweep()]

    def test_a_newer_ones_file_is_not_replaced(self, tmp_path):
        path = tmp_path / "sweep-1.json"
        path.write_text('{"kind": "sweep", "schema_version": 99}')
        with pytest.raises(store.UnreadableRecordError, match="schema version 99"):
            sweeps.write(sweep(), tmp_path)
        assert "99" in path.read_text()


class TestPassedOver:
    def test_it_is_what_a_sweep_did_not_choose(self):
        assert passed_over([sweep(runs=["a", "b", "c"])]) == {"b"}

    @pytest.mark.parametrize("turn", [1, -1])
    def test_what_another_sweep_chose_is_not(self, turn):
        both = [sweep(), sweep(chosen=["b"], not_chosen=["c"])]
        assert passed_over(each for each in both[::turn]) == {"c"}

    def test_without_sweeps_it_is_nothing(self):
        assert passed_over([]) == frozenset()


class TestPick:
    def test_the_best_mean_over_seeds_is_chosen_and_not_the_best_seed(self):
        chosen, others = pick(seeds(1, 0.5, 0.6) + seeds(2, 0.9, 0.0) + seeds(3, 0.1))
        assert chosen == ["maf-mine-1-0", "maf-mine-1-1"]
        assert others == ["maf-mine-2-0", "maf-mine-2-1", "maf-mine-3-0"]

    def test_test_likelihoods_have_no_say(self):
        one, other = (
            seeds(setting, nats, test_ll_nats={"mean": -nats}, test_ll_own_units_nats=-nats)
            for setting, nats in ((1, 0.5), (2, 0.6))
        )
        assert settings_of(pick(one + other)[0]) == {"2"}

    @pytest.mark.parametrize(
        "other",
        [
            {"flow": "iaf"},
            {"data": "other"},
            {"data_version": 2},
            {"data_fingerprint": "other"},
            {"space": "raw"},
            {"rows_sha256": {"validation": "other"}},
        ],
    )
    def test_each_flow_on_each_data_has_its_own(self, other):
        chosen, _ = pick(seeds(1, 0.5) + seeds(2, 0.1, **other))
        assert settings_of(chosen) == {"1", "2"}
        assert settings_of(pick(seeds(1, 0.5) + seeds(2, 0.1))[0]) == {"1"}

    def test_code_and_machine_do_not_part_the_seeds(self):
        elsewhere = ENVIRONMENT.model_copy(update={"device_name": "other", "threads": 8, "code_digest": "new"})
        first, second = seeds(1, 0.9, 0.0)
        second = second.model_copy(update={"environment": elsewhere})
        assert settings_of(pick([first, *seeds(2, 0.5)])[0]) == {"1"}
        assert settings_of(pick([first, second, *seeds(2, 0.5)])[0]) == {"2"}

    @pytest.mark.parametrize("broken", ["diverged", "failed", None])
    def test_a_configuration_of_which_a_seed_broke_is_not_chosen(self, broken):
        chosen, others = pick(seeds(1, 0.9, broken) + seeds(2, 0.1))
        assert (settings_of(chosen), others) == ({"2"}, ["maf-mine-1-0", "maf-mine-1-1"])

    def test_unless_none_is_whole(self):
        chosen, others = pick(seeds(1, 0.9, "diverged") + seeds(2, 0.1, "failed") + seeds(3, "failed"))
        assert chosen == ["maf-mine-1-0", "maf-mine-1-1"]
        assert settings_of(others) == {"2", "3"}

    def test_an_interrupted_seed_is_like_one_that_was_never_begun(self):
        chosen, _ = pick(seeds(1, 0.9, "interrupted") + seeds(2, 0.1, 0.1))
        assert chosen == ["maf-mine-1-0", "maf-mine-1-1"]

    def test_what_did_not_end_well_has_no_figure_that_counts(self):
        bad = seeds(2, 99.0, status="interrupted")
        assert settings_of(pick(seeds(1, 0.1) + seeds(2, 0.0) + bad)[0]) == {"1"}

    def test_where_none_ended_well_nothing_is_chosen_and_nothing_passed_over(self):
        assert pick(seeds(1, "failed") + seeds(2, "interrupted")) == ([], [])
        assert pick([]) == ([], [])

    def test_of_equal_means_the_one_over_more_seeds_is_chosen_then_the_first_by_its_settings(self):
        assert settings_of(pick(seeds(1, 0.5) + seeds(2, 0.5, 0.5))[0]) == {"2"}
        assert settings_of(pick(seeds(2, 0.5) + seeds(1, 0.5))[0]) == {"1"}

    def test_the_order_of_the_records_changes_nothing(self):
        nats = [0.1, 0.2, 0.3, 0.7, 1e-17]
        records = [*seeds(1, *nats), *seeds(2, *nats[::-1]), *seeds(3, 0.9, "failed"), *seeds(1, 0.1, flow="iaf")]
        found = pick(records)
        for n in range(50):
            random.Random(n).shuffle(records)
            assert pick(records) == found
        assert sorted(itertools.chain(*found)) == sorted(record.run for record in records)
