"""``flowbench check``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from flowbench.cli.options import Json
from flowbench.console import print_json, print_result
from flowbench.errors import FlowbenchError


def check(
    flow: Annotated[str, typer.Argument(help="A flow's name, or the path of a .py file of your own.")],
    as_json: Json = False,
) -> None:
    """Hold a flow against its contract: inverse, log-det, gradients, order, samples, integral, save and load."""
    from flowbench import flows, plugins
    from flowbench.training.contract import examine

    name = plugins.name_of("flows", flow)
    found = []
    for label, outcome in examine(flows.load(name), name):
        found.append({"property": label} | outcome.model_dump())
        if not as_json:
            value = "not finite" if outcome.value is None else f"{outcome.value:.2g}"
            verdict = Text("holds" if outcome.passed else "fails", style="green" if outcome.passed else "red")
            rest = f"  {label:24}  {value:>10} ≤ {outcome.limit:g}   {outcome.what}"
            print_result(verdict.append(rest, style="default"))
    if as_json:
        print_json({"flow": name, "properties": found})
    failed = [finding["property"] for finding in found if not finding["passed"]]
    if failed:
        raise FlowbenchError(f"{name} breaks its contract in {len(failed)} of {len(found)} properties")
