"""What there is to run: the flows and the datasets. No torch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench import data, plugins
from flowbench.console import printable
from flowbench.data.registry import plugged_in

FLOWS = Path(__file__).parents[1] / "flows"


def document() -> dict[str, Any]:
    """Flows and datasets as strict JSON has them; ``plugin`` says where one from outside the package lies."""
    own = {path.stem: path for path in FLOWS.glob("[!_]*.py")}
    flows = {name: _flow(name, path) for name, path in own.items()}
    for name, plugin in plugins.find("flows", own).items():
        flows[name] = _flow(name, plugin.path, plugin.origin)
    outside = plugged_in()
    datasets = [_dataset(name, outside[name].origin if name in outside else None) for name in data.names()]
    return {"flows": [flows[name] for name in sorted(flows)], "datasets": datasets}


def render() -> RenderableType:
    """Flows and datasets as a person reads them."""
    found = document()
    flows = Table(title="flows", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for header in ("name", "what"):
        flows.add_column(header)
    for flow in found["flows"]:
        flows.add_row(flow["name"], flow["summary"] + _from(flow))
    datasets = Table(title="\ndatasets", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for header in ("name", "columns", "train", "validation", "test", "raw files", "licence", "what and where from"):
        right = header in ("columns", "train", "validation", "test")
        datasets.add_column(header, justify="right" if right else "left", no_wrap=header in ("name", "raw files"))
    for dataset in found["datasets"]:
        rows = (f"{dataset[part]:,}" for part in ("dim", "n_train", "n_validation", "n_test"))
        source = f"{dataset['title']} · {dataset['source_url']}{_from(dataset)}"
        datasets.add_row(dataset["name"], *rows, dataset["raw_files"], dataset["licence"], source)
    return Group(flows, datasets)


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
