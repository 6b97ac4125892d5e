import io
import json
import tomllib
from importlib.resources import files

import numpy as np
import pytest
from records import ENVIRONMENT, by_path, full_record, make_record, timing
from rich.cells import cell_len
from rich.console import Console

from flowbench.errors import NothingToCompareError
from flowbench.report import compare, layout, show
from flowbench.results import store
from flowbench.results.published import published, published_shape
from flowbench.results.record import Estimate, Likelihoods, Training
from flowbench.results.statistics import paired_difference


def run(flow="maf", nats=0.8, **changes):
    """A run that reached ``nats``."""
    reached = None if nats is None else Estimate(mean=nats, stderr=0.0063)
    figures = {"test_ll_nats": reached, "train_seconds": 77.0}
    return make_record(**{"flow": flow, "run": f"{flow}-{nats}"} | figures | changes)


def three_flows(**changes):
    """What the papers claim: MAF's density is fast, IAF's sampling, both of RealNVP's."""
    fast, slow = 2.0, 20.0
    costs = {"maf": (fast, slow, 1, 6), "iaf": (slow, fast, 6, 1), "realnvp": (fast, fast, 1, 1)}
    return [
        run(
            flow,
            nats,
            density_passes=density_passes,
            sampling_passes=sampling_passes,
            timings=[timing(100, density, sampling), timing(1000, density / 2, sampling / 2)],
            **changes,
        )
        for nats, (flow, (density, sampling, density_passes, sampling_passes)) in zip(
            (0.8, 0.4, 0.1), costs.items(), strict=True
        )
    ]


def only(rows):
    (table,) = compare.tables(by_path(rows))
    return table


def shown(rows, width=None, **console):
    """What is printed on a terminal of that width; piped where there is none."""
    out = io.StringIO()
    terminal = {"force_terminal": True, "width": width} if width else {"force_terminal": False}
    show.show(compare.tables(by_path(rows)), Console(file=out, color_system=None, **terminal, **console))
    return out.getvalue()


def line_of(text, start):
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return line


def reached(record):
    return record.likelihoods.test_ll_nats and record.likelihoods.test_ll_nats.mean


def below_best(table):
    return [line.nats_below_best and line.nats_below_best.mean for line in table.lines]


class TestPublished:
    @pytest.mark.parametrize(
        ("data", "model", "nats", "two_stderr"),
        [
            ("power", "MAF (5)", 0.14, 0.01),
            ("gas", "RealNVP (5)", 4.78, 1.80),
            ("hepmass", "MADE", -20.98, 0.02),
            ("miniboone", "MAF MoG (5)", -11.68, 0.44),
            ("miniboone", "Gaussian", -37.24, 1.07),
            ("bsds300", "MAF (10)", 154.93, 0.28),
            ("mnist", "MAF (5)", -1300.5, 1.7),
            ("cifar10", "RealNVP (10)", 2568, 26),
            ("power", "RQ-NSF (AR)", 0.66, None),
            ("bsds300", "TAN", 159.80, None),
        ],
    )
    def test_values_are_the_papers(self, data, model, nats, two_stderr):
        (entry,) = (entry for entry in published(data) if entry.model == model and not entry.conditional)
        assert (entry.test_ll_nats, entry.two_stderr_nats) == (nats, two_stderr)

    def test_conditional_values_and_bits_stand_apart(self):
        by_kind = {entry.conditional: entry for entry in published("mnist") if entry.model == "MAF (5)"}
        assert by_kind[True].test_ll_nats == -1302.9
        assert by_kind[True].bits_per_pixel is None
        assert by_kind[False].bits_per_pixel == 1.89
        assert (by_kind[False].flow, by_kind[False].transforms) == ("maf", 5)

    def test_each_table_is_complete(self):
        counts = {data: len(published(data)) for data in ("power", "gas", "hepmass", "miniboone", "bsds300")}
        assert set(counts.values()) == {14}
        assert len(published("mnist")) == len(published("cifar10")) == 16

    def test_best_come_first(self):
        values = [entry.test_ll_nats for entry in published("gas")]
        assert values == sorted(values, reverse=True)

    def test_other_data_has_none(self):
        assert published("patches") == []
        assert published_shape("patches") is None

    def test_every_entry_names_a_known_dataset_and_source(self):
        document = tomllib.loads(files("flowbench.results").joinpath("published.toml").read_text(encoding="utf-8"))
        for model in document["model"]:
            named = {*model["nats"], *model.get("conditional_nats", {}), *model.get("bits_per_pixel", {})}
            assert named <= set(document["data"])
            assert model["source"] in document["sources"]


class TestTables:
    def test_nothing_is_its_own_error_with_a_hint(self):
        with pytest.raises(NothingToCompareError) as caught:
            compare.tables({})
        assert caught.value.exit_code == 3
        assert "flowbench train" in caught.value.hint

    def test_there_is_one_a_dataset(self):
        rows = [run(data="patches"), run(data="digits"), run(data="patches", seed=1)]
        tables = compare.tables(by_path(rows))
        assert [(table.data, len(table.lines)) for table in tables] == [("digits", 1), ("patches", 2)]

    def test_the_best_comes_first_and_the_rest_say_how_far_below_they_are(self):
        table = only([run(nats=-3.5), run(nats=2.0), run(nats=None), run(nats=0.5)])
        assert [reached(line.record) for line in table.lines] == [2.0, 0.5, -3.5, None]
        assert below_best(table) == [0.0, 1.5, 5.5, None]
        assert table.best_ll_nats == 2.0

    def test_ties_are_all_best_and_in_a_fixed_order(self):
        rows = [run("realnvp", 1.0), run("maf", 1.0, seed=2), run("maf", 1.0, seed=1)]
        tables = [only(rows), only(rows[::-1])]
        for table in tables:
            tied = [(line.record.task.flow, line.record.setup.seed) for line in table.lines]
            assert tied == [("maf", 1), ("maf", 2), ("realnvp", 0)]
            assert below_best(table) == [0.0, 0.0, 0.0]
        assert shown(rows).count(" best ") == 4  # the header and three cells

    def test_published_numbers_stand_beside_published_data(self):
        entries = only([run()]).published
        assert {entry.model for entry in entries} > {"MAF (5)", "RQ-NSF (AR)"}
        assert not any(entry.conditional for entry in only([run(data="mnist", dim=784, n_test=10_000)]).published)

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

    def test_partial_data_is_a_dataset_of_its_own(self):
        names = [table.data for table in compare.tables(by_path([run(), run(data="power~256869", partial=True)]))]
        assert names == ["power", "power~256869"]

    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_a_run_that_did_not_end_well_is_shown_without_its_figures(self, status):
        reached = Estimate(mean=99.0, stderr=99.0, stderr_by_group=99.0)
        bad = full_record(run="maf-bad", status=status, error="epoch 3: loss was nan\ntrace", test_ll_nats=reached)
        table = only([bad, run(nats=0.5)])
        assert [line.record.status for line in table.lines] == ["ok", status]
        assert table.best_ll_nats == 0.5
        line = table.lines[1]
        assert line.nats_below_best is None
        assert line.record.timings == []
        assert line.record.likelihoods == Likelihoods()
        assert line.record.training == Training()
        assert table.references == ()
        assert f"maf-bad {status}: epoch 3: loss was nan" in table.notes
        text = shown([bad, run(nats=0.5)])
        assert status in [line for line in text.splitlines() if line.startswith("maf 5")][1]  # for its nats
        assert "99" not in text

    def test_the_distance_from_the_best_has_the_error_of_the_paired_differences(self, tmp_path):
        rng = np.random.default_rng(0)
        hardness = 10 * rng.standard_normal(1000)
        values = {"maf": hardness, "iaf": hardness - 0.5 + 0.1 * rng.standard_normal(1000)}
        for flow, lls in values.items():
            figures = {"n_test": 1000, "test_ll_nats": Estimate(mean=lls.mean(), stderr=0.3)}
            store.write(run(flow, **figures, data="mine"), tmp_path, lls)
        store.write(run("realnvp", -9.0, data="mine", n_test=1000), tmp_path)
        (table,) = compare.tables(store.read_all(tmp_path))
        best, paired, alone = (line.nats_below_best for line in table.lines)
        mean, stderr = paired_difference(values["maf"], values["iaf"])
        assert (best.mean, best.stderr) == (0.0, None)
        assert paired.mean == pytest.approx(mean)
        assert paired.stderr == stderr < 0.004
        assert alone.stderr is None
        out = io.StringIO()
        show.show([table], Console(file=out, width=100))
        assert f"-{mean:.4f} ± {2 * stderr:.4f}" in line_of(out.getvalue(), "iaf")
        runs = compare.document([table])["tables"][0]["runs"]
        assert runs[1]["nats_below_best"]["stderr"] == stderr

    @pytest.mark.parametrize("change", [{"data_fingerprint": "other"}, {"rows": 9}, {"damaged": True}])
    def test_likelihoods_of_other_rows_are_not_paired(self, tmp_path, change, capsys):
        damaged, rows = change.pop("damaged", False), change.pop("rows", 10)
        store.write(run("maf", 1.0), tmp_path, np.zeros(10))
        path = store.write(run("iaf", 0.5, **change), tmp_path, np.ones(rows))
        if damaged:
            (tmp_path / store.read(path).files.test_lls).write_bytes(b"no array")
        (table,) = compare.tables(store.read_all(tmp_path))
        assert [line.nats_below_best.stderr for line in table.lines] == [None, None]
        assert ("damaged" in capsys.readouterr().err) == damaged

    def test_the_error_by_photograph_stands_beside_and_is_said(self):
        clustered = Estimate(mean=3.0, stderr=0.01, stderr_by_group=0.17)
        rows = [run(test_ll_nats=clustered, test_groups=25, data="windows"), run(nats=2.0, data="windows")]
        text = shown(rows)
        assert "± 2 s.e. by" in text
        assert "3.000 ± 0.020         0.34" in text
        assert "given the 25 photographs, or strips, that the rows are windows of" in text
        assert "photograph" not in shown([run(data="windows")])

    def test_a_table_of_failed_runs_alone_is_shown(self):
        text = shown([run(status="diverged", data="patches", run="maf-bad")], width=80)
        assert "diverged" in text
        assert "0.8" not in text

    @pytest.mark.parametrize("change", [{"data_version": 2}, {"data_fingerprint": "other"}])
    def test_other_data_under_one_name_is_not_compared(self, change):
        rows = [run(nats=1.0), run(nats=0.5, **change)]
        table = only(rows)
        assert below_best(table) == [0.0, 0.0]
        assert table.best_ll_nats is None
        assert any("not comparable" in note for note in table.notes)
        assert not any("not comparable" in note for note in only([rows[0], rows[0]]).notes)

    @pytest.mark.parametrize(
        "change",
        [{"device": "cuda", "device_name": "H100"}, {"threads": 8}, {"device_name": "x"}, {"dtype": "float64"}],
    )
    def test_times_of_other_machines_get_a_note(self, change):
        here, there = run(seed=0), run(seed=1, environment=ENVIRONMENT.model_copy(update=change))
        assert any("times" in note for note in only([here, there]).notes)
        assert not any("times" in note for note in only([here, here]).notes)

    def test_truth_and_gaussian_are_references(self):
        rows = [run(data="truth-ar", true_test_ll_nats=-5.0, gaussian_test_ll_nats=Estimate(mean=-9.0, stderr=0.1))]
        references = [(entry.model, entry.test_ll_nats) for entry in only(rows * 2).references]
        expected = ("truth", Estimate(mean=-5.0)), ("fitted Gaussian", Estimate(mean=-9.0, stderr=0.1))
        assert references == list(expected)

    def test_a_run_of_the_gaussian_is_its_own_reference(self):
        gaussian = {"gaussian_test_ll_nats": Estimate(mean=-7.74, stderr=0.01)}
        assert only([run(**gaussian), run("gaussian", -7.74, **gaussian)]).references == ()

    @pytest.mark.parametrize(
        ("config", "label"),
        [
            ({"transforms": 5, "hidden": [100, 100]}, "maf 5 × (2×100)"),
            ({"transforms": 10, "hidden": [1024]}, "maf 10 × (1×1024)"),
            ({"transforms": 5, "hidden": (100, 50)}, "maf 5 × (100-50)"),
            ({"transforms": 5, "hidden": []}, "maf 5 × (linear)"),
            ({}, "maf"),
        ],
    )
    def test_a_model_is_called_by_its_flow_and_size(self, config, label):
        assert run(config=config).model == label


class TestShow:
    def test_the_directions_that_the_papers_claim_can_be_read_off(self):
        text = shown(three_flows())
        cells = {flow: line_of(text, flow).split() for flow in ("maf", "iaf", "realnvp")}
        # passes, then density and sampling at either batch
        assert cells["maf"][-7:] == ["1", "/", "6", "2.00", "20.0", "1.00", "10.0"]
        assert cells["iaf"][-7:] == ["6", "/", "1", "20.0", "2.00", "10.0", "1.00"]
        assert cells["realnvp"][-7:] == ["1", "/", "1", "2.00", "2.00", "1.00", "1.00"]

    def test_figures_stand_right(self):
        text = shown([run(timings=[timing(100, 1234.0, 2.0)]), run("iaf", 0.7, timings=[timing(100, 2.0, 2.0)])])
        assert line_of(text, "maf").index("1,234") + 5 == line_of(text, "iaf").index("2.00") + 4

    def test_tables_are_parted_by_a_blank_line(self):
        lines = shown([run(data="digits"), run(data="patches")]).splitlines()
        assert lines[0].startswith("digits")
        assert lines[next(n for n, line in enumerate(lines) if line.startswith("patches")) - 1] == ""

    def test_fast_directions_are_coloured(self):
        out = io.StringIO()
        console = Console(
            file=out, force_terminal=True, color_system="standard", width=200, no_color=False, legacy_windows=False
        )
        show.show(compare.tables(by_path(three_flows())), console)
        green = {}
        for line in out.getvalue().splitlines():
            for flow in ("maf", "iaf", "realnvp"):
                if line.startswith((flow, f"\x1b[1m{flow}")):
                    green[flow] = line.count("\x1b[32m")
        assert green == {"maf": 2, "iaf": 2, "realnvp": 4}

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
    def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(self, width):
        rows = three_flows(gaussian_test_ll_nats=Estimate(mean=-7.74, stderr=0.01))
        bits = Estimate(mean=1.9, stderr=0.01)
        rows += three_flows(data="mnist", dim=784, n_test=10_000, bits_per_pixel=bits, seed=1)
        rows += three_flows(data="truth-ar", nats_below_truth=Estimate(mean=0.03, stderr=0.004), recipe="paper")
        rows += [
            run(data="truth-ar", environment=ENVIRONMENT.model_copy(update={"device_name": "NVIDIA H100 80GB HBM3"}))
        ]
        text = shown(rows, width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "…" not in text
        assert text.count("0.800 ± 0.013") + text.count("0.800 ±  0.013") == 4  # published errors on mnist are wider
        timed = [line for line in text.splitlines() if line.startswith("maf") and "10.0" in line]
        assert len(timed) == (3 if width > 40 else 0)  # then names go before times

    def test_a_figure_that_cannot_be_shown_whole_is_marked(self):
        (line,) = (line for line in shown(three_flows(data="patches"), 20).splitlines() if "0.1" in line)
        assert "…" in line
        assert "0.100 ± 0.013" not in line

    def test_at_80_columns_passes_and_all_times_are_there(self):
        rows = three_flows()
        text = shown(rows, 80)
        assert line_of(text, "realnvp").split()[-7:] == ["1", "/", "1", "2.00", "2.00", "1.00", "1.00"]
        assert "left out at this width: train, to best;" in text

    def test_what_tells_runs_apart_is_folded_and_not_lost(self):
        rows = [row for seed in (3, 4) for row in three_flows(seed=seed, recipe=f"abc{seed}")]
        text = shown(rows, 80)
        assert text.count("seed 3") == text.count("seed 4") == text.count("recipe abc3") == 3

    def test_what_is_the_same_for_all_is_said_once(self):
        text = shown(three_flows())
        assert "all runs: recipe fast, seed 0, device a processor (2 threads)" in text
        assert text.count("fast") == 1

    def test_runs_that_differ_in_a_setting_only_can_be_told_apart(self):
        text = shown([run(config_hash="aaaaaaaaaa"), run(nats=0.7, config_hash="bbbbbbbbbb")])
        assert "aaaaaaaa" in text
        assert "bbbbbbbb" in text
        assert "aaaaaaaa" not in shown([run(config_hash="aaaaaaaaaa"), run("iaf", config_hash="bbbbbbbbbb")])

    def test_what_is_piped_is_complete_and_plain(self):
        rows = [row for seed in (3, 4) for row in three_flows(seed=seed)]
        rows += [run(status="failed", run="long", error="e" * 300)]
        text = shown(rows)
        assert "left out" not in text
        assert "e" * 300 in text
        assert "\x1b" not in text
        assert text.count("77 s") == 6

    def test_published_numbers_share_the_column_of_nats_and_name_their_source(self):
        text = shown(three_flows())
        ours, theirs = line_of(text, "realnvp"), line_of(text, "MAF (5) [")
        assert ours.index("± 0.013") == theirs.index("± 0.01")
        assert ours.index("0.100") == theirs.index("0.14")
        number = theirs.split("[")[1][0]
        assert line_of(text, f"[{number}]").startswith(f"[{number}] Papamakarios")
        assert text.index("published") > text.index("realnvp")

    @pytest.mark.parametrize("name", ["[red]x[/red]", "[/]"])
    @pytest.mark.parametrize("where", ["data", "flow", "recipe", "space"])
    def test_markup_in_names_is_only_text(self, name, where):
        changes = {"run": "x", "data": "mine", where: name}
        assert name in shown([run(**changes), run(**changes, seed=1)])
        bad = run(status="failed", error=name, data=name, run=name.replace("/", ""))
        assert f"failed: {name}" in shown([bad])

    def test_what_would_steer_a_terminal_does_not_reach_it(self):
        steering = "\x1b]0;title\x07\x1b[31mred"
        text = shown([run(data=steering, flow=steering, recipe=steering, run="x"), run(data=steering, seed=2)])
        assert not set(text) & {"\x1b", "\x07"}
        assert "title" in text

    @pytest.mark.parametrize("width", [26, 30, 40])
    def test_a_narrow_terminal_keeps_the_models_names_and_their_nats(self, width):
        text = shown(three_flows(), width)
        assert max(map(cell_len, text.splitlines())) <= width
        runs = text[: text.index("published")].splitlines()
        for flow, nats in {"maf": "0.800", "iaf": "0.400", "realnvp": "0.100"}.items():
            assert any(line.startswith(flow) and f"{nats} ± 0.013" in line for line in runs)
        assert any("2×100" in line for line in runs)
        flat = " ".join(text.split())
        assert all(f"{each} µs/row @ 1000" in flat for each in ("density", "sample"))  # named as left out


class TestDocument:
    def test_it_is_strict_json_with_every_figure(self):
        rows = [full_record(), run(status="diverged", error="loss was nan"), run(data="patches")]
        text = json.dumps(compare.document(compare.tables(by_path(rows))), allow_nan=False)
        document = json.loads(text)
        assert [table["data"] for table in document["tables"]] == ["patches", "power"]
        power = document["tables"][1]
        best, diverged = power["runs"]
        assert best["record"]["timings"][0]["density_us_per_row"] == 2.0
        assert best["nats_below_best"] == {"mean": 0.0, "stderr": None, "stderr_by_group": None}
        assert diverged["record"]["likelihoods"]["test_ll_nats"] is None
        assert diverged["record"]["error"] == "loss was nan"
        assert {"model": "MAF (5)", "test_ll_nats": 0.14, "two_stderr_nats": 0.01}.items() <= next(
            entry for entry in power["published"] if entry["model"] == "MAF (5)"
        ).items()
        assert document["tables"][0]["published"] == []


class TestLayout:
    def test_decimal_points_stand_below_each_other(self):
        cells = layout.aligned([layout.Figure(-1.234, 0.0123), layout.Figure(10.5, 0.5, 1), layout.Figure(3.0, None)])
        assert cells == ("-1.234 ± 0.012", "10.5   ± 0.5  ", " 3.000        ")

    def test_errors_get_two_digits_and_blanks_stay_blank(self):
        assert layout.aligned([layout.Figure(-1302.34, 1.71), layout.Figure(None, None)]) == ("-1302.3 ± 1.7", "")
        assert layout.aligned([layout.Figure(2367.0, 29.0)]) == ("2367 ± 29",)

    @pytest.mark.parametrize(
        ("seconds", "said"), [(None, ""), (3.21, "3.2 s"), (77.3, "77 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
    )
    def test_durations(self, seconds, said):
        assert layout.duration(seconds) == said

    @pytest.mark.parametrize(
        ("value", "said"),
        [(None, ""), (0.0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (99.96, "100.0"), (17455, "17,455")],
    )
    def test_three_digits(self, value, said):
        assert layout.significant(value) == said


def test_a_rebuilt_set_is_said_to_be_one():
    table = only([make_record(data="bsds300", dim=63, n_test=250_000, space="patch")])
    assert table.published
    assert any("not bit for bit" in note for note in table.notes)
