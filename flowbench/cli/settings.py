"""``--settings`` of train, posterior and fit-target: all settings, as the options' classes describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from flowbench.config import FlowOptions, RunConfig, Settings, as_set, packaged_layers, resolve
from flowbench.console import print_json, stdout

WIDE = 140
"""From so many columns on, a terminal shows a setting in one line."""


@dataclass(frozen=True)
class Setting:
    """One setting: what a person reads of it; ``default`` is its value where nothing else is set."""

    name: str
    of: str
    default: Any
    type: str
    meaning: str


def show_settings(flow: str | None, data: str, recipe: str, as_json: bool) -> None:
    """Print the settings of the training and of the flow, or of every flow, with the defaults for data and recipe."""
    found = _settings(flow, data, recipe)
    if as_json:
        document = {"flow": flow, "data": data, "recipe": recipe, "settings": [asdict(setting) for setting in found]}
        return print_json(document)
    console = stdout()
    console.print(_rendered(found, f"with their defaults for {data} and the recipe {recipe}", console.width))


def show_posterior_settings(posterior: str, data: str, recipe: str, as_json: bool) -> None:
    """As `show_settings`, of ``flowbench posterior``."""
    from flowbench.variational.order import PosteriorOrder

    config = PosteriorOrder(flow=posterior, data=data, recipe=recipe, device="cpu").config()
    about = {"posterior": posterior, "data": data, "recipe": recipe}
    _show_of(about, {"latent variable model": config.latent, **_of_run(config)}, as_json)


def show_target_settings(flow: str, target: str, recipe: str, as_json: bool) -> None:
    """As `show_settings`, of ``flowbench fit-target``."""
    from flowbench.variational.target_order import TargetOrder

    config = TargetOrder(flow=flow, data=target, recipe=recipe, device="cpu").config()
    about = {"flow": flow, "target": target, "recipe": recipe}
    _show_of(about, {"fit": config.fitting, **_of_run(config)}, as_json)


def _of_run(config: RunConfig) -> dict[str, Settings]:
    return {f"flow ({config.flow})": config.model, "training": config.training}


def _show_of(about: dict[str, str], parts: Mapping[str, Settings], as_json: bool) -> None:
    """The settings of these parts, ``about`` whose last two items their defaults are."""
    found = [setting for of, options in parts.items() for setting in _described(options, of)]
    if as_json:
        return print_json(about | {"settings": [asdict(setting) for setting in found]})
    *_, what, recipe = about.values()
    console = stdout()
    console.print(_rendered(found, f"with their defaults for {what} and the recipe {recipe}", console.width))


def _settings(flow: str | None, data: str, recipe: str) -> list[Setting]:
    from flowbench import flows
    from flowbench.data import registry
    from flowbench.data.tables.loading import is_path

    if not is_path(data):
        registry.recipe(data)  # a misspelt name is told
    resolved: dict[FlowOptions, list[str]] = {}
    for name in [flow] if flow else flows.names():
        packaged = packaged_layers(name, "" if is_path(data) else data, recipe)
        run = {"flow": name, "data": data, "recipe": recipe, "seed": 0, "device": "cpu", "threads": 1}
        config = resolve(flows.load(name).Options, packaged, {}, **run)
        resolved.setdefault(config.model, []).append(name)
    found = [
        setting for options, names in resolved.items() for setting in _described(options, f"flow ({', '.join(names)})")
    ]
    return found + _described(config.training, "training")


def _described(options: Settings, of: str) -> list[Setting]:
    fields = type(options).model_json_schema()["properties"] if type(options).model_fields else {}
    values = options.model_dump(mode="json")
    return [
        Setting(name, of, values[name], _type(schema), schema.get("description", "")) for name, schema in fields.items()
    ]


def _type(schema: Mapping[str, Any]) -> str:
    """A field's JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items']).replace('number', 'numbers')}"
    words = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "null": "none",
        "string": "text",
    }
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    kind = schema.get("type", "value")
    return " ".join([words.get(kind, kind), *limits])


def _rendered(found: list[Setting], title: str, width: int) -> Table:
    """A line for each setting, or, in a terminal too narrow for that, its meaning below its default and type."""
    table = Table(title=f"settings, {title}", title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    of = None
    for setting in found:
        if setting.of != of:
            table.add_row(Text(setting.of, style="bold"))
            of = setting.of
        cells = [as_set(setting.default), f"({setting.type})", setting.meaning]
        if width < WIDE:
            cells = [f"{cells[0]} {cells[1]}\n{cells[2]}"]
        table.add_row(*map(Text, [f"  {setting.name}", *cells]))
    return table
