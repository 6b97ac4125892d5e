"""What a user ordered: enough to find its configuration and its data again, here or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from flowbench import plugins
from flowbench.config import RunConfig, packaged_layers, resolve
from flowbench.data import Dataset, TableOptions, load
from flowbench.data.tables.loading import is_path
from flowbench.files import expanded


class Order(BaseModel):
    """A run as it was asked for. ``settings`` are the user's, by file or one by one; None of ``threads``: torch's own.

    ``init_seed`` and ``shuffle_seed`` are for the initial weights and the batches' order alone (None: ``seed``);
    ``split_seed`` and ``noise_seed`` (None: the same) for a table of the user's. ``test_data`` and ``validation_data``
    are files of rows that are not drawn from it. ``sketch``: whether a few of them are kept beside the record;
    ``tensorboard``: whether the run's curves are written for it, too. Neither changes a figure, or the run's name.
    """

    # settings may be infinite; strict JSON has a word for that
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    flow: str
    data: str
    recipe: str = "fast"
    seed: int = 0
    init_seed: int | None = None
    shuffle_seed: int | None = None
    split_seed: int = 0
    noise_seed: int | None = None
    device: str = "auto"
    threads: int | None = None
    settings: dict[str, Any] = {}
    allow_partial: bool = False
    table: TableOptions = TableOptions()
    test_data: str | None = None
    validation_data: str | None = None
    sketch: bool = True
    tensorboard: bool = False

    def wherever(self) -> Order:
        """The same from any working folder."""
        files = {"test_data": self.test_data, "validation_data": self.validation_data}
        if self.flow.endswith(".py"):
            files["flow"] = self.flow
        if is_path(self.data) or self.data.endswith(".py"):
            files["data"] = self.data
        there = {name: str(expanded(path).absolute()) for name, path in files.items() if path is not None}
        return self.model_copy(update=there)

    def config(self) -> RunConfig:
        """All that decides the run's numbers, checked before anything is loaded; torch takes the threads.

        Raises:
            UsageError: no such flow, dataset, recipe, device or setting, or nothing that writes curves.
        """
        import torch

        from flowbench import flows
        from flowbench.training.curves import refuse_without_tensorboard
        from flowbench.training.environment import resolve_device

        if self.tensorboard:
            refuse_without_tensorboard()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        flow, data = plugins.name_of("flows", self.flow), plugins.name_of("datasets", self.data)
        where = {"device": resolve_device(self.device), "threads": torch.get_num_threads()}
        packaged = packaged_layers(flow, "" if is_path(data) else data, self.recipe)
        seeds = {"seed": self.seed, "init_seed": self.init_seed, "shuffle_seed": self.shuffle_seed}
        known = {"flow": flow, "data": data, "recipe": self.recipe, "code": flows.code(flow)}
        return resolve(flows.load(flow).Options, packaged, self.settings, **known, **seeds, **where)

    def dataset(self) -> Dataset:
        """The data; see `flowbench.data.load`."""
        return load(
            plugins.name_of("datasets", self.data),
            split_seed=self.split_seed,
            noise_seed=self.noise_seed,
            allow_partial=self.allow_partial,
            table_options=self.table,
            test_data=self.test_data,
            validation_data=self.validation_data,
        )


@dataclass(frozen=True)
class How:
    """What is done with an order that was carried out before, in part or whole.

    ``force``: a finished run is trained again, and one that was broken off elsewhere gone on with. ``restart``: anew,
    whatever there is. ``finish``: a broken-off run takes no more steps. ``run`` is the name of what is to be gone on
    with, None where an order is carried out as it comes.
    """

    force: bool = False
    restart: bool = False
    finish: bool = False
    checkpoint_every: float | None = None
    run: str | None = None
