"""A sweep as it is ordered, on the command line or in a TOML file: every flow on every dataset, setting and seed."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowbench.config import as_set
from flowbench.data import TableOptions
from flowbench.errors import UsageError, did_you_mean, first_fault
from flowbench.training.order import Order


class Spec(BaseModel):
    """What is swept over, and what all runs share.

    ``seeds`` are so many from ``seed`` on. ``grid`` has a list of values for each setting that is varied, ``settings``
    the others. ``test_data`` and ``validation_data`` go with every table. ``pick``: of a grid, only the best
    configuration by validation is to be looked at on test rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    flows: tuple[str, ...] = Field(min_length=1)
    data: tuple[str, ...] = ("patches",)
    seeds: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    split_seed: int = Field(0, ge=0)
    grid: dict[str, list[Any]] = {}
    settings: dict[str, Any] = {}
    recipe: str = "fast"
    device: str = "auto"
    allow_partial: bool = False
    table: TableOptions = TableOptions()
    test_data: str | None = None
    validation_data: str | None = None
    sketch: bool = True
    pick: bool = False


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its number, its order, and what it is called while it runs."""

    number: int
    order: Order
    varied: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> str:
        """What sets it apart beside flow, data and seed."""
        return " ".join(f"{key}={as_set(value)}" for key, value in self.varied.items())

    def on(self, threads: int) -> Job:
        """The same with so many threads. Of several GPUs its process sees one, whatever its number was."""
        device = "cuda" if self.order.device.startswith("cuda") else self.order.device
        return replace(self, order=self.order.model_copy(update={"threads": threads, "device": device}))

    def with_curves(self) -> Job:
        """The same, whose curves TensorBoard can read."""
        return replace(self, order=self.order.model_copy(update={"tensorboard": True}))

    def anywhere(self) -> Job:
        """The same on a processor, which every machine has."""
        return replace(self, order=self.order.model_copy(update={"device": "cpu"}))

    @property
    def log(self) -> str:
        """The name of its log: of its own, where two tables have one name."""
        return f"{self.label}-{self.number}.log"

    @property
    def label(self) -> str:
        """A name for it that can be a file's."""
        flow, data = (Path(name).name for name in (self.order.flow, self.order.data))
        parts = [flow, data, *self.settings.split(), f"seed{self.order.seed}"]
        return "-".join("".join(c if c.isalnum() or c in "._=," else "_" for c in part) for part in parts)


def jobs(spec: Spec) -> list[Job]:
    """All runs of a sweep: flow by flow within dataset, the grid's last setting and then the seed varying fastest."""
    found: list[Job] = []
    points = [dict(zip(spec.grid, values, strict=True)) for values in itertools.product(*spec.grid.values())]
    for data, flow, point, seed in itertools.product(spec.data, spec.flows, points, range(spec.seeds)):
        order = Order(
            flow=flow,
            data=data,
            recipe=spec.recipe,
            seed=spec.seed + seed,
            split_seed=spec.split_seed,
            device=spec.device,
            settings=spec.settings | point,
            allow_partial=spec.allow_partial,
            table=spec.table,
            test_data=spec.test_data,
            validation_data=spec.validation_data,
            sketch=spec.sketch,
        )
        found.append(Job(len(found), order.wherever(), point))
    return found


def grid(texts: Iterable[str]) -> dict[str, list[Any]]:
    """``key=value,value`` texts as lists of values, each as TOML where it is; values that are lists have brackets.

    Raises:
        UsageError: a text of another form.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not (equals and key.strip() and values.strip()):
            raise UsageError(f"--grid takes key=value,value, not {text!r}")
        try:
            found[key.strip()] = tomllib.loads(f"values = [{values}]")["values"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = [_value(value) for value in values.split(",")]
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def checked(fields: Mapping[str, Any]) -> Spec:
    """The sweep that has these fields.

    Raises:
        UsageError: a field that there is not, or with no such value.
    """
    for name in fields:
        if name not in Spec.model_fields:
            raise UsageError(f"a sweep has no {name!r}", did_you_mean(name, Spec.model_fields))
    try:
        return Spec.model_validate(fields)
    except ValidationError as error:
        raise UsageError(": ".join(first_fault(error))) from error
