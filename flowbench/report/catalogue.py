"""What there is to run: the flows and the datasets. No torch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from flowbench import data, plugins
from flowbench.console import UNLIMITED, printable
from flowbench.data.registry import plugged_in

FLOWS = Path(__file__).parents[1] / "flows"
SPLITS = ("train", "validation", "test")


def document() -> dict[str, Any]:
    """Flows and datasets as strict JSON has them; ``plugin`` says where one from outside the package lies."""
    own = {path.stem: path for path in FLOWS.glob("[!_]*.py")}
    flows = {name: _flow(name, path) for name, path in own.items()}
    for name, plugin in plugins.find("flows", own).items():
        flows[name] = _flow(name, plugin.path, plugin.origin)
    outside = plugged_in()
    datasets = [_dataset(name, outside[name].origin if name in outside else None) for name in data.names()]
    return {"flows": [flows[name] for name in sorted(flows)], "datasets": datasets}


def render(console: Console) -> RenderableType:
    """Flows and datasets as a person reads them: each dataset in one line if the console is wide enough for it."""
    found = document()
    flows = _table("flows", "name", "what")
    for flow in found["flows"]:
        flows.add_row(Text(flow["name"]), Text(flow["summary"] + _from(flow)))
    lines = _lines(found["datasets"])
    if Measurement.get(console, console.options.update(max_width=UNLIMITED), lines).maximum <= console.width:
        return Group(flows, lines)
    left_out = Text("* left out at this width: where from; a wider terminal, a pipe or --json has all", style="dim")
    return Group(flows, _blocks(found["datasets"]), left_out)


def _lines(datasets: list[dict[str, Any]]) -> Table:
    """Each dataset in one line."""
    table = _table("\ndatasets", "name", "columns", *SPLITS, "raw files", "licence", "what", "where from")
    for column in table.columns[1:5]:
        column.justify = "right"
    for one in datasets:
        sizes = (f"{one[size]:,}" for size in ("dim", "n_train", "n_validation", "n_test"))
        cells = (one["name"], *sizes, one["raw_files"], one["licence"], one["title"], one["source_url"] + _from(one))
        table.add_row(*map(Text, cells))
    return table


def _blocks(datasets: list[dict[str, Any]]) -> Table:
    """Each dataset in a line of figures, and below it what it is."""
    table = _table(f"\ndatasets, with their rows of {' / '.join(SPLITS)}", "name", "what")
    table.show_header = False
    for one in datasets:
        rows = " / ".join(f"{one[size]:,}" for size in ("n_train", "n_validation", "n_test"))
        figures = f"{one['dim']:,} columns · {rows} rows · {one['raw_files']}"
        table.add_row(Text(one["name"]), Text(f"{figures}\n{one['title']} · {one['licence']}{_from(one)}"))
    return table


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, no_wrap=header == "name")
    return table


def _from(entry: dict[str, Any]) -> str:
    return f" · plug-in: {printable(entry['plugin'])}" if entry["plugin"] else ""


def _flow(name: str, path: Path | None, plugin: str | None = None) -> dict[str, Any]:
    # read, not imported: a flow imports torch
    docstring = (path and ast.get_docstring(ast.parse(path.read_bytes()))) or ""
    return {"name": name, "summary": docstring.partition("\n")[0], "plugin": plugin}


def _dataset(name: str, plugin: str | None) -> dict[str, Any]:
    card = data.card(name)
    return {
        "name": name,
        "title": card.title,
        "dim": card.dim,
        "n_train": card.n_train,
        "n_validation": card.n_validation,
        "n_test": card.n_test,
        "space": card.space,
        "source_url": card.source_url,
        "licence": card.licence,
        "raw_files": data.raw_status(name),
        "plugin": plugin,
    }
