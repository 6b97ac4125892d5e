import io
import json
import tomllib
from importlib.resources import files

import pytest
from records import ENVIRONMENT, full_row, make_row, timing
from rich.cells import cell_len
from rich.console import Console

from flowbench.errors import NothingToCompareError
from flowbench.report import compare, layout
from flowbench.results.published import published, published_shape


def run(flow="maf", nats=0.8, **changes):
    """A run that reached ``nats``."""
    figures = {"test_ll_nats": nats, "test_ll_stderr_nats": 0.0063, "train_seconds": 77.0}
    return make_row(**{"flow": flow, "run": f"{flow}-{nats}"} | figures | changes)


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
    (table,) = compare.tables(rows)
    return table


def shown(rows, width=None, **console):
    """What is printed on a terminal of that width; piped where there is none."""
    out = io.StringIO()
    terminal = {"force_terminal": True, "width": width} if width else {"force_terminal": False}
    compare.show(compare.tables(rows), Console(file=out, color_system=None, **terminal, **console))
    return out.getvalue()


def line_of(text, start):
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return line


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
        document = tomllib.loads(files("flowbench").joinpath("published.toml").read_text(encoding="utf-8"))
        for model in document["model"]:
            named = {*model["nats"], *model.get("conditional_nats", {}), *model.get("bits_per_pixel", {})}
            assert named <= set(document["data"])
            assert model["source"] in document["sources"]


class TestTables:
    def test_nothing_is_its_own_error_with_a_hint(self):
        with pytest.raises(NothingToCompareError) as caught:
            compare.tables([])
        assert caught.value.exit_code == 3
        assert "flowbench train" in caught.value.hint

    def test_there_is_one_a_dataset(self):
        rows = [run(data="patches"), run(data="digits"), run(data="patches", seed=1)]
        assert [(table.data, len(table.lines)) for table in compare.tables(rows)] == [("digits", 1), ("patches", 2)]

    def test_the_best_comes_first_and_the_rest_say_how_far_below_they_are(self):
        table = only([run(nats=-3.5), run(nats=2.0), run(nats=None), run(nats=0.5)])
        assert [line.row.test_ll_nats for line in table.lines] == [2.0, 0.5, -3.5, None]
        assert [line.nats_below_best for line in table.lines] == [0.0, 1.5, 5.5, None]
        assert table.best_ll_nats == 2.0

    def test_ties_are_all_best_and_in_a_fixed_order(self):
        rows = [run("realnvp", 1.0), run("maf", 1.0, seed=2), run("maf", 1.0, seed=1)]
        tables = [only(rows), only(rows[::-1])]
        for table in tables:
            assert [(line.row.flow, line.row.seed) for line in table.lines] == [("maf", 1), ("maf", 2), ("realnvp", 0)]
            assert {line.nats_below_best for line in table.lines} == {0.0}
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
        names = [table.data for table in compare.tables([run(), run(data="power~256869", partial=True)])]
        assert names == ["power", "power~256869"]

    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_a_run_that_did_not_end_well_is_shown_without_its_figures(self, status):
        bad = full_row(run="maf-bad", status=status, error="epoch 3: loss was nan\ntrace", test_ll_nats=99.0)
        table = only([bad, run(nats=0.5)])
        assert [line.row.status for line in table.lines] == ["ok", status]
        assert table.best_ll_nats == 0.5
        line = table.lines[1]
        assert line.nats_below_best is None
        assert line.row.timings == []
        figures = [name for name, field in type(bad).model_fields.items() if field.annotation == float | None]
        assert {getattr(line.row, name) for name in figures} == {None}
        assert table.references == ()
        assert f"maf-bad {status}: epoch 3: loss was nan" in table.notes
        text = shown([bad, run(nats=0.5)])
        assert status in [line for line in text.splitlines() if line.startswith("maf 5")][1]  # for its nats
        assert "99.0" not in text

    def test_a_table_of_failed_runs_alone_is_shown(self):
        text = shown([run(status="diverged", data="patches", run="maf-bad")], width=80)
        assert "diverged" in text
        assert "0.8" not in text

    @pytest.mark.parametrize("change", [{"data_version": 2}, {"data_fingerprint": "other"}])
    def test_other_data_under_one_name_is_not_compared(self, change):
        rows = [run(nats=1.0), run(nats=0.5, **change)]
        table = only(rows)
        assert [line.nats_below_best for line in table.lines] == [0.0, 0.0]
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
        rows = [
            run(data="truth-ar", true_test_ll_nats=-5.0, gaussian_test_ll_nats=-9.0, gaussian_test_ll_stderr_nats=0.1)
        ]
        references = [(entry.model, entry.test_ll_nats, entry.two_stderr_nats) for entry in only(rows * 2).references]
        assert references == [("truth", -5.0, None), ("fitted Gaussian", -9.0, 0.2)]

    def test_a_run_of_the_gaussian_is_its_own_reference(self):
        gaussian = {"gaussian_test_ll_nats": -7.74, "gaussian_test_ll_stderr_nats": 0.01}
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
        assert compare.model_label(run(config=config)) == label


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
        compare.show(compare.tables(three_flows()), console)
        green = {}
        for line in out.getvalue().splitlines():
            for flow in ("maf", "iaf", "realnvp"):
                if line.startswith((flow, f"\x1b[1m{flow}")):
                    green[flow] = line.count("\x1b[32m")
        assert green == {"maf": 2, "iaf": 2, "realnvp": 4}

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
    def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(self, width):
        rows = three_flows(gaussian_test_ll_nats=-7.74, gaussian_test_ll_stderr_nats=0.01)
        rows += three_flows(
            data="mnist", dim=784, n_test=10_000, bits_per_pixel=1.9, bits_per_pixel_stderr=0.01, seed=1
        )
        rows += three_flows(data="truth-ar", nats_below_truth=0.03, nats_below_truth_stderr=0.004, recipe="paper")
        rows += [
            run(data="truth-ar", environment=ENVIRONMENT.model_copy(update={"device_name": "NVIDIA H100 80GB HBM3"}))
        ]
        text = shown(rows, width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "…" not in text
        assert text.count("0.800 ± 0.013") + text.count("0.800 ±  0.013") == 4  # published errors on mnist are wider
        timed = [line for line in text.splitlines() if line.startswith("maf") and "10.0" in line]
        assert len(timed) == 3

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

    def test_markup_in_names_is_only_text(self):
        assert "[red]x[/red]" in shown([run(data="[red]x[/red]")])


class TestDocument:
    def test_it_is_strict_json_with_every_figure(self):
        rows = [full_row(), run(status="diverged", error="loss was nan"), run(data="patches")]
        text = json.dumps(compare.document(compare.tables(rows)), allow_nan=False)
        document = json.loads(text)
        assert [table["data"] for table in document["tables"]] == ["patches", "power"]
        power = document["tables"][1]
        assert power["runs"][0]["timings"][0]["density_us_per_row"] == 2.0
        assert power["runs"][0]["nats_below_best"] == 0.0
        assert power["runs"][1]["test_ll_nats"] is None
        assert power["runs"][1]["error"] == "loss was nan"
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
    (table,) = compare.tables([make_row(data="bsds300", dim=63, n_test=250_000, space="patch")])
    assert table.published
    assert any("not bit for bit" in note for note in table.notes)
