"""The list of flows and datasets, at the widths that terminals have."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import pytest
from rich.console import Console

from flowbench import data
from flowbench.console import UNLIMITED
from flowbench.report import catalogue


def lines(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False)
    console.print(catalogue.render(console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "most"), [(60, 5), (80, 3), (120, 2)])
def test_a_dataset_takes_few_lines_of_a_terminal(width: int, most: int) -> None:
    shown = lines(width)
    starts = [index for index, line in enumerate(shown) if line.split(" ")[0] in data.names()]
    assert len(starts) == len(data.names())
    end = next(index for index, line in enumerate(shown) if line.startswith("* left out"))
    assert max(after - start for start, after in pairwise([*starts, end])) <= most, "\n".join(shown)
    text = " ".join(" ".join(shown).split())
    for name in data.names():
        assert data.card(name).title in text
        assert data.card(name).licence in text


def test_where_it_fits_each_has_one_line_with_all_of_it() -> None:
    shown = lines(UNLIMITED)
    (power,) = [line for line in shown if line.startswith("power ")]
    assert data.card("power").source_url in power
    assert "1,659,917" in power


def test_brackets_in_a_title_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    one = dict.fromkeys(("dim", "n_train", "n_validation", "n_test"), 1)
    one |= dict.fromkeys(("name", "title", "source_url", "licence", "raw_files"), "[b]x[/b]") | {"plugin": None}
    document = {"flows": [{"name": "[b]x[/b]", "summary": "[i]y", "plugin": None}], "datasets": [one]}
    monkeypatch.setattr(catalogue, "document", lambda: document)
    for width in (80, UNLIMITED):
        assert "[b]x[/b]" in "\n".join(lines(width))
        assert "[i]y" in "\n".join(lines(width))


def test_the_document_keeps_its_keys() -> None:
    document = json.loads(json.dumps(catalogue.document()))
    assert document.keys() == {"flows", "datasets"}
    keys = "name title dim n_train n_validation n_test space source_url licence raw_files plugin"
    assert all(dataset.keys() == set(keys.split()) for dataset in document["datasets"])
