"""What there is to run: the flows and the datasets. No torch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from flowbench import data

FLOWS = Path(__file__).parents[1] / "flows"


def document() -> dict[str, Any]:
    """Flows and datasets as strict JSON has them."""
    return {"flows": [_flow(path) for path in _flow_files()], "datasets": [_dataset(name) for name in data.names()]}


def render() -> RenderableType:
    """Flows and datasets as a person reads them."""
    found = document()
    flows = Table(title="flows", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for header in ("name", "what"):
        flows.add_column(header)
    for flow in found["flows"]:
        flows.add_row(flow["name"], flow["summary"])
    datasets = Table(title="\ndatasets", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for header in ("name", "columns", "train", "validation", "test", "raw files", "licence", "what and where from"):
        right = header in ("columns", "train", "validation", "test")
        datasets.add_column(header, justify="right" if right else "left", no_wrap=header in ("name", "raw files"))
    for dataset in found["datasets"]:
        rows = (f"{dataset[part]:,}" for part in ("dim", "n_train", "n_validation", "n_test"))
        source = f"{dataset['title']} · {dataset['source_url']}"
        datasets.add_row(dataset["name"], *rows, dataset["raw_files"], dataset["licence"], source)
    return Group(flows, datasets)


def _flow_files() -> list[Path]:
    return sorted(path for path in FLOWS.glob("*.py") if not path.stem.startswith("_"))


def _flow(path: Path) -> dict[str, str]:
    # read, not imported: a flow imports torch
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return {"name": path.stem, "summary": docstring.partition("\n")[0]}


def _dataset(name: str) -> dict[str, Any]:
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
    }
