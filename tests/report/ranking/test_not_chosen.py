"""Lines that a sweep did not choose on validation rows are shown, and are never the best on test rows."""

import csv
import io
import json

import pytest
from ranking_cases import only, read, rows, run, shown, write_run

from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.document import csv_rows, csv_text, document
from flowbench.report.ranking.pairs import matrices, matrix_sheet, pairs_document, pairs_rows
from flowbench.report.ranking.tables import tables
from flowbench.report.ranking.text import latex, markdown
from flowbench.results import store, sweeps

SORTS = ["validation", "test", "density", "sampling", "train", "name"]


def marks(table):
    return {line.settings.get("learning_rate", line.record.task.flow): line.mark for line in table.lines}


def grid(**others):
    """Three settings of MAF: the one that is best on validation rows was chosen, another is best on test rows."""
    return [
        run(nats=test, settings={"learning_rate": rate}, validation_ll_nats=validation, run=f"rate-{rate}", **others)
        for rate, validation, test in ((0.1, 0.5, 0.4), (0.2, 0.4, 0.9), (0.3, 0.3, 0.2))
    ]


PASSED_OVER = frozenset({"rate-0.2", "rate-0.3"})


@pytest.fixture
def folder(tmp_path):
    """A sweep's folder whose second setting is not told from the first, which was chosen."""
    paths = [
        write_run(tmp_path, lls=rows(mean), settings={"learning_rate": rate}, validation_ll_nats=validation)
        for rate, validation, mean in ((0.1, 0.5, 0.0), (0.2, 0.4, 0.003), (0.3, 0.3, 0.2))
    ]
    records = [store.read(path) for path in paths]
    chosen, not_chosen = sweeps.pick(records)
    names = [record.run for record in records]
    found = sweeps.Sweep(name="sweep-1", started_at="", ordered={}, runs=names, chosen=chosen, not_chosen=not_chosen)
    sweeps.write(found, tmp_path)
    return tmp_path


def of_sweeps(folder, **options):
    """The one table of a folder, its sweeps heeded."""
    runs, found = sweeps.with_runs(folder)
    (table,) = tables(runs, passed_over=sweeps.passed_over(found), **options)
    return table


class TestBest:
    @pytest.mark.parametrize("sort", SORTS)
    def test_no_order_makes_one_the_best(self, sort):
        table = only(grid(), sort=sort, passed_over=PASSED_OVER)
        assert marks(table) == {"0.1": "best", "0.2": "not chosen", "0.3": "not chosen"}
        assert table.best.settings == {"learning_rate": "0.1"}

    def test_without_a_sweep_test_rows_would_have_chosen_it(self):
        assert marks(only(grid(), sort="test"))["0.2"] == "best"

    def test_the_best_validation_likelihood_of_all_is_no_exception(self):
        assert marks(only(grid(), passed_over={"rate-0.1"})) == {"0.1": "not chosen", "0.2": "best", "0.3": ""}

    def test_what_is_no_part_of_the_sweep_may_be_best(self):
        table = only([*grid(), run("iaf", 0.6)], passed_over=PASSED_OVER)
        assert marks(table) == {"0.1": "", "0.2": "not chosen", "0.3": "not chosen", "iaf": "best"}

    def test_they_keep_their_place(self):
        table = only(grid(), sort="test", passed_over=PASSED_OVER)
        assert list(marks(table)) == ["0.2", "0.1", "0.3"]

    def test_a_line_with_a_seed_that_was_not_passed_over_is_eligible(self):
        seeds = [run(seed=seed, run=f"seed-{seed}") for seed in range(2)]
        assert marks(only(seeds, passed_over={"seed-0"})) == {"maf": "best"}
        assert marks(only(seeds, passed_over={"seed-0", "seed-1"})) == {"maf": "not chosen"}

    def test_a_run_that_did_not_end_well_is_marked_too(self):
        table = only([run(), run("iaf", None, status="diverged", run="bad")], passed_over={"bad"})
        assert marks(table) == {"maf": "best", "iaf": "not chosen"}

    def test_where_none_was_chosen_nothing_is_best(self):
        table = only(grid(), passed_over={"rate-0.1", *PASSED_OVER})
        assert (table.best, set(marks(table).values())) == (None, {"not chosen"})
        assert all(line.to_best is None and line.test_ll_nats is not None for line in table.lines)
        assert "not chosen" in shown(grid(), passed_over={"rate-0.1", *PASSED_OVER})


class TestDifference:
    def test_it_is_to_the_best_that_was_chosen(self):
        found = {line.settings["learning_rate"]: line.to_best for line in only(grid(), passed_over=PASSED_OVER).lines}
        assert found["0.1"] is None
        assert found["0.2"].mean == pytest.approx(0.5)
        assert found["0.3"].mean == pytest.approx(-0.2)

    @pytest.mark.parametrize("sort", SORTS)
    def test_one_that_may_be_chance_is_no_tie(self, folder, sort):
        assert marks(read(folder))["0.2"] == "tied"
        table = of_sweeps(folder, sort=sort)
        assert marks(table) == {"0.1": "best", "0.2": "not chosen", "0.3": "not chosen"}
        line = next(line for line in table.lines if line.settings["learning_rate"] == "0.2")
        assert (line.to_best.difference.stderr < 0.01, line.to_best.p) == (True, None)
        assert not any("tied:" in note or "to best without" in note for note in table.notes)

    def test_the_others_are_not_adjusted_for_it(self, folder):
        write_run(folder, "iaf", rows(-0.003), validation_ll_nats=0.1)
        alone, all_together = (
            next(line for line in table.lines if line.record.task.flow == "iaf").to_best.p
            for table in (of_sweeps(folder), read(folder))
        )
        assert all_together > alone
        assert "by Holm over 1 differences" in " ".join(of_sweeps(folder).notes)


class TestForms:
    def test_a_terminal_and_a_pipe_show_the_mark_and_say_what_it_means(self):
        for width in (None, 60):
            text = shown(grid(), width, passed_over=PASSED_OVER)
            assert text.count("not chosen") == 3
            assert "* not chosen: a sweep chose other settings" in " ".join(text.split())
        assert "not chosen" not in shown(grid())

    def test_the_note_is_there_only_where_it_is_needed(self):
        assert any(note.startswith("not chosen:") for note in only(grid(), passed_over=PASSED_OVER).notes)
        assert not any(note.startswith("not chosen:") for note in only(grid(), passed_over={"another"}).notes)

    @pytest.mark.parametrize(("form", "bold"), [(markdown, "**"), (latex, r"\textbf")])
    def test_documents_have_the_mark_and_only_the_chosen_in_bold(self, form, bold):
        found = form([ranking(only(grid(), sort="test", passed_over=PASSED_OVER))]).splitlines()
        lines = {rate: next(line for line in found if rate in line) for rate in ("=0.1", "=0.2", "=0.3")}
        assert ["not chosen" in line for line in lines.values()] == [False, True, True]
        assert [bold in line for line in lines.values()] == [True, False, False]
        assert any("not chosen: a sweep chose" in line for line in found)

    def test_data_have_it_as_the_mark(self):
        table = only(grid(), passed_over=PASSED_OVER)
        lines = list(next(document([table])["tables"])["lines"])
        assert [line["mark"] for line in lines] == ["best", "not chosen", "not chosen"]
        assert [line["to_best_nats"] and round(line["to_best_nats"]["mean"], 9) for line in lines] == [None, 0.5, -0.2]
        found = [row for row in csv.DictReader(io.StringIO(csv_text(csv_rows([table])))) if row["kind"] == "runs"]
        assert [row["mark"] for row in found] == ["best", "not chosen", "not chosen"]

    def test_pairs_say_it(self, folder):
        (matrix,) = matrices([of_sweeps(folder)])
        marked = next(column for column in matrix_sheet(matrix).columns if "not chosen" in column.cells)
        assert marked.cells == ("", "not chosen", "not chosen")
        assert [line["mark"] for line in pairs_document([matrix])["tables"][0]["lines"]][1:] == ["not chosen"] * 2
        assert [row["column"].endswith(", not chosen") for row in pairs_rows([matrix])] == [True, True, True]
        assert not pairs_rows([matrix])[0]["row"].endswith("not chosen")
        assert "not chosen" not in json.dumps(pairs_rows(matrices([read(folder)])))
