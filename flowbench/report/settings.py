"""What differs between configurations, spelt out as ``--set`` takes it. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from flowbench.config import as_set
from flowbench.results.record import Trained

IN_THE_NAME = frozenset({"transforms", "hidden"})
"""What the model's name says already, where it says a size at all."""


def differing(records: Sequence[Trained]) -> list[dict[str, str]]:
    """For each record the settings in which those of its flow differ, by key.

    A setting that some records do not know (their code is older, or newer) differs, and is said where it is known.
    """
    by_flow: dict[str, list[Trained]] = {}
    for record in records:
        by_flow.setdefault(record.task.flow, []).append(record)
    keys = {flow: _differing_keys(found) for flow, found in by_flow.items()}
    return [_spelt_out(record, keys[record.task.flow]) for record in records]


def _differing_keys(records: Sequence[Trained]) -> list[str]:
    first, found = records[0].setup.config, set[str]()
    for record in records[1:]:
        config = record.setup.config
        found.update(key for key, value in config.items() if key not in first or first[key] != value)
        found.update(key for key in first if key not in config)
    return sorted(found)


def _spelt_out(record: Trained, keys: Sequence[str]) -> dict[str, str]:
    config = record.setup.config
    named = IN_THE_NAME if IN_THE_NAME & set(keys) and record.model != record.task.flow else frozenset()
    return {key: as_set(config[key]) for key in keys if key in config and key not in named}
