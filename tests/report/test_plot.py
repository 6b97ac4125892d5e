"""Pictures for a paper."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from sketch_cases import STEERS, sketch, write_results

from flowbench.cli.plot import plot
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.report.drawing import drawn
from flowbench.report.figures import sketches, style

pytest.importorskip("vl_convert", reason="the extra `report` is not installed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_results(folder)
    return folder


OF_ALL = [("curves", "mine"), ("pairs", "mine"), ("frontier", "mine"), ("history", "mine"), ("scaling", None)]
OF_A_RUN = [(kind, "run-0") for kind in ("curves", "samples", "pairs", "pit")]


@pytest.mark.parametrize("columns", ["one", "two"])
@pytest.mark.parametrize(
    ("kind", "data", "run"), [(k, d, None) for k, d in OF_ALL] + [(k, None, r) for k, r in OF_A_RUN]
)
def test_every_kind_is_drawn_as_wide_as_it_may_be(
    kind: str, data: str | None, run: str | None, columns: str, results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figure.svg"
    plot(run, data=data, kind=kind, columns=columns, out=out, results=results)  # type: ignore[arg-type]
    size = re.search(r'<svg[^>]* width="([\d.]+)"', text := out.read_text())
    assert size
    assert float(size[1]) <= 1.2 * style.WIDTHS[columns]
    assert "NaN" not in text
    assert re.search(r'role-mark[^>]*><path[^>]* d="M[^"]{12,}"', text)  # something is drawn


def test_a_pdf_has_its_fonts_and_a_png_its_dots(results: Path, tmp_path: Path) -> None:
    for name in ("figure.pdf", "figure.png"):
        plot(data="mine", kind="frontier", out=tmp_path / name, results=results)
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"FontFile" in pdf
    with Image.open(io.BytesIO((tmp_path / "figure.png").read_bytes())) as image:
        assert image.width > 0.85 * style.WIDTHS["two"] * 300 / 72


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "pit", "data": "mine"}, "of one run"),
        ({"kind": "frontier", "run": "run-0"}, "all runs"),
        ({"kind": "curves"}, "several datasets"),
        ({"run": "run-00"}, "no run"),
        ({"run": "run-0", "data": "mine"}, "its own flow"),
        ({"data": "mine", "out": Path("figure.gif")}, "ends in none of"),
        ({"run": "run-0", "kind": "samples", "only": "aa"}, "no column"),
    ],
)
def test_what_cannot_be_drawn_is_said(given: dict, said: str, results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        plot(**{"out": tmp_path / "figure.pdf", "results": results} | given)


def test_a_run_without_a_sketch_says_so(results: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError, match="no sketch"):
        plot("diverged", kind="samples", out=tmp_path / "figure.pdf", results=results)


def test_columns_are_chosen(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "figure.svg"
    plot("run-0", kind="samples", only="a", out=out, results=results)
    assert ">differs by 0.010<" in out.read_text()
    assert "differs by 0.110" not in out.read_text()


def test_what_steers_is_text_in_a_picture() -> None:
    found = sketches.marginals(sketch(columns=(STEERS, "b", "c")), "maf on mine")
    svg = drawn(found[0], ".svg", "two")
    assert b"\\x1b[31mred" in svg
    assert b"\x1b" not in svg


def test_a_column_that_fits_says_by_how_much() -> None:
    (numbers, classes) = sketches.marginals(sketch(), "maf on mine")
    assert numbers.rows[0]["panel"] == "1 · a\ndiffers by 0.010\nmay be chance"
    assert "by chance" in numbers.notes[0]
    assert {row["value"] for row in classes.rows} == {"x", "<b>y</b>"}
