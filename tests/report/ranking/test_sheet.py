"""A ranking as it is printed: what it says, and how it fits."""

import io

import pytest
from ranking_cases import line_of, printed, rows, run, shown, three_flows, write_run
from records import ENVIRONMENT, by_path, timing
from rich.cells import cell_len
from rich.console import Console

from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.sheet import show
from flowbench.report.ranking.tables import tables
from flowbench.results import store
from flowbench.results.published import Published
from flowbench.results.record import Estimate

BELOW = {"gaussian_test_ll_nats": Estimate(mean=0.9, stderr=0.01)}


def estimated(**changes):
    what = {"data": "power", "model": "VDM", "flow": None, "transforms": None, "conditional": False}
    what |= {"test_ll_nats": 99.0, "two_stderr_nats": None, "bits_per_pixel": None, "source": "A paper"}
    return Published(**what | {"density": "estimated", "estimated_by": "an ODE"} | changes)


class TestLines:
    def test_what_differs_is_spelt_out_and_no_hash_is(self):
        text = shown([run(settings={"learning_rate": 0.01}), run(nats=0.7, settings={"learning_rate": 0.02})])
        lines = [line.split() for line in text.splitlines() if line.startswith("maf 5")]
        assert [line[4] for line in lines] == ["learning_rate=0.01", "learning_rate=0.02"]
        assert "config" not in text

    def test_a_hash_tells_apart_what_nothing_else_does(self):
        text = shown([run(config_hash="aaaaaaaaaa"), run(nats=0.7, config_hash="bbbbbbbbbb")])
        assert "aaaaaaaa" in text
        assert "bbbbbbbb" in text

    def test_seeds_are_a_number_or_the_one_seed(self):
        bad = run("iaf", seed=1, status="failed")
        text = shown([run(seed=0), run(seed=4), run("iaf", 0.2, seed=7), bad, run("realnvp", 0.1, seed=5)])
        assert " 2 seeds " in line_of(text, "maf")
        assert " 1 of 2 seeds " in line_of(text, "iaf")
        assert " seed 5 " in line_of(text, "realnvp")

    def test_means_errors_and_spread_stand_apart(self, tmp_path):
        for seed, mean in enumerate((0.0, 0.3)):
            write_run(tmp_path, lls=rows(mean, seed=seed), seed=seed, validation_ll_nats=-5.0)
        write_run(tmp_path, "iaf", rows(-0.1), validation_ll_nats=-6.0)
        text = printed(tables(store.read_all(tmp_path)))
        header = " ".join(" ".join(line.split()) for line in text.splitlines()[2:4])
        assert header == "validation test nats s.d. of to best model seeds nats ± 2 s.e. seeds ± 2 s.e. train"
        cells = line_of(text, "maf").split()
        assert cells[cells.index("seeds") + 1 :] == ["-5.00", "0.15", "±", "0.62", "best", "0.21", "77", "s"]
        cells = line_of(text, "iaf").split()
        assert cells[5:9] == ["0", "-6.00", "-0.10", "±"]
        assert cells[10:12] == ["tied", "-0.25"]

    def test_marks_stand_beside_the_nats(self, tmp_path):
        for flow, mean in {"maf": 0.0, "iaf": -0.003, "realnvp": -0.2}.items():
            write_run(tmp_path, flow, rows(mean))
        text = printed(tables(store.read_all(tmp_path)))
        assert " best " in line_of(text, "maf")
        assert " tied " in line_of(text, "iaf")
        assert not {"best", "tied"} & set(line_of(text, "realnvp").split())
        assert "tied: the paired difference to the best may be chance (p > 0.05, by Holm over 2 differences)" in text

    def test_below_its_gaussian_is_a_sign_and_a_note(self):
        text = shown([run(nats=1.0, **BELOW), run("iaf", 0.8, **BELOW)])
        assert "▼" not in line_of(text, "maf")
        assert "▼" in line_of(text, "iaf")
        assert "* ▼ below its Gaussian" in text

    def test_several_codes_are_told_apart_by_their_revision(self):
        other = ENVIRONMENT.model_copy(update={"code_digest": "beefbeef", "git_revision": "fedcba987654+"})
        text = shown([run(), run(nats=0.7, environment=other)])
        lines = [line.split() for line in text.splitlines() if line.startswith("maf 5")]
        assert [line[4] for line in lines] == ["0123abc", "fedcba9+"]
        assert "revision" not in shown([run(), run("iaf")])
        dirty = ENVIRONMENT.model_copy(update={"code_digest": "beefbeef"})
        text = shown([run(), run(nats=0.7, environment=dirty)])
        assert "0123abc (c0de)" in text
        assert "0123abc (beefbe)" in text

    def test_the_error_by_photograph_stands_beside_and_is_said(self):
        clustered = Estimate(mean=3.0, stderr=0.01, stderr_by_group=0.17)
        text = shown(
            [
                run(nats=3.0, test_ll_nats=clustered, test_groups=25, data="windows"),
                run("iaf", 2.0, data="windows"),
            ]
        )
        assert "± 2 s.e. by" in text
        assert "3.000 ± 0.020  best" in text
        assert " 0.34 " in line_of(text, "maf")
        assert "given the 25 photographs, or strips, that the rows are windows of" in text
        assert "photograph" not in shown([run(data="windows")])


class TestPublished:
    def test_they_share_the_column_of_nats_and_name_their_source(self):
        text = shown(three_flows())
        ours, theirs = line_of(text, "realnvp"), line_of(text, "MAF (5) [")
        assert ours.index("± 0.013") == theirs.index("± 0.01")
        assert ours.rindex("0.100") == theirs.index("0.14")
        number = theirs.split("[")[1][0]
        assert line_of(text, f"[{number}]").startswith(f"[{number}] Papamakarios")
        assert text.index("\npublished\n") > text.index("realnvp")

    def test_estimated_densities_stand_apart_and_are_held_against_nothing(self, monkeypatch):
        exact = estimated(model="Exact", density="exact", estimated_by=None, test_ll_nats=1.0)
        monkeypatch.setattr("flowbench.report.ranking.tables.published", lambda data: [exact, estimated()])
        text = shown([run(nats=0.5)])
        assert text.index("\npublished\n") < text.index("Exact [1]") < text.index("\npublished, estimated densities\n")
        assert text.index("\npublished, estimated densities\n") < text.index("VDM [1]")
        assert line_of(text, "Exact").split()[-1] == "+0.50"
        assert line_of(text, "VDM").split()[-1] == "99.00"
        assert text.count("best") == 2  # the header, and the run

    def test_second_hand_numbers_are_marked(self, monkeypatch):
        monkeypatch.setattr(
            "flowbench.report.ranking.tables.published", lambda data: [estimated(secondhand=True), estimated(model="X")]
        )
        text = shown([run()])
        assert "VDM [1, second-hand]" in text
        assert "X [1] " in text


class TestForm:
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

    def test_colours_are_for_fast_directions_the_best_and_what_is_below_its_gaussian(self):
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, color_system="standard", width=200, legacy_windows=False)
        records = [*three_flows(), run("below", 0.05, **BELOW)]
        show([ranking(table) for table in tables(by_path(records))], console)
        lines = {flow: line_of(out.getvalue(), flow) for flow in ("maf", "iaf", "realnvp", "below")}
        assert {flow: line.count("\x1b[32m") for flow, line in lines.items()} == {
            "maf": 2,
            "iaf": 2,
            "realnvp": 4,
            "below": 0,
        }
        assert "\x1b[1m0.800 ± 0.013\x1b[0m" in lines["maf"]
        assert "\x1b[31m0.050 ± 0.013\x1b[0m" in lines["below"]

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
    def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(self, width):
        records = three_flows(gaussian_test_ll_nats=Estimate(mean=-7.74, stderr=0.01))
        bits = Estimate(mean=1.9, stderr=0.01)
        records += three_flows(data="mnist", dim=784, n_test=10_000, bits_per_pixel=bits, seed=1)
        records += three_flows(data="truth-ar", nats_below_truth=Estimate(mean=0.03, stderr=0.004), recipe="paper")
        records += [
            run(data="truth-ar", environment=ENVIRONMENT.model_copy(update={"device_name": "NVIDIA H100 80GB HBM3"}))
        ]
        text = shown(records, width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "…" not in text
        assert text.count("0.800 ± 0.013") + text.count("0.800 ±  0.013") == 4  # published errors on mnist are wider
        timed = [line for line in text.splitlines() if line.startswith("maf") and "10.0" in line]
        assert len(timed) == (3 if width > 80 else 2 if width == 80 else 0)  # likelihoods stay longer than times

    def test_a_figure_that_cannot_be_shown_whole_is_marked(self):
        (line,) = (line for line in shown(three_flows(data="patches"), 20).splitlines() if "0.1" in line)
        assert "…" in line
        assert "0.100 ± 0.013" not in line

    def test_at_80_columns_likelihoods_the_difference_and_the_largest_batchs_times_are_there(self):
        text = shown(three_flows(), 80)
        assert line_of(text, "realnvp").split()[4:] == ["0.100", "0.100", "±", "0.013", "-0.70", "1.00", "1.00"]
        assert "left out at this width: train, passes d / s, density µs/row @ 100, sample" in " ".join(text.split())

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

    def test_what_tells_runs_apart_is_folded_and_not_lost(self):
        records = [row for seed in (3, 4) for row in three_flows(seed=seed, recipe=f"abc{seed}")]
        text = shown(records, 80)
        assert text.count("seed 3") == text.count("seed 4") == text.count("recipe abc3") == 3
        text = shown([run(settings={"a": 1}), run(nats=0.7, settings={"a": 2})], 60)
        assert "\n  a=1\n" in text

    def test_what_is_the_same_for_all_is_said_once(self):
        text = shown(three_flows())
        assert "all runs: recipe fast, seed 0, device a processor (2 threads)" in text
        assert text.count("fast") == 1

    def test_what_is_piped_is_complete_and_plain(self):
        records = [row for seed in (3, 4) for row in three_flows(seed=seed, recipe=f"abc{seed}")]
        records += [run("long", status="failed", error="e" * 300)]
        text = shown(records)
        assert "left out" not in text
        assert "e" * 300 in text
        assert "\x1b" not in text
        assert text.count("77 s") == 6

    @pytest.mark.parametrize("name", ["[red]x[/red]", "[/]"])
    @pytest.mark.parametrize("where", ["data", "flow", "recipe", "space"])
    def test_markup_in_names_is_only_text(self, name, where):
        changes = {"run": "x", "data": "mine", where: name}
        assert name in shown([run(**changes), run(**changes | {"flow": "x"})])
        bad = run(status="failed", error=name, data=name, run=name.replace("/", ""))
        assert f"failed: {name}" in shown([bad])

    def test_what_would_steer_a_terminal_does_not_reach_it(self):
        steering = "\x1b]0;title\x07\x1b[31mred"
        hostile = {"data": steering, "recipe": steering, "run": "x"}
        text = shown([run(steering, each, settings={steering: each}, **hostile) for each in (0.1, 0.2)])
        assert not set(text) & {"\x1b", "\x07"}
        assert "title" in text
