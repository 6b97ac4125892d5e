"""``flowbench train --settings``: every setting, with its default, type and meaning."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import Field

from flowbench import flows
from flowbench.cli import settings
from flowbench.config import Settings, TrainingOptions
from flowbench.errors import UsageError


def document(capsys: pytest.CaptureFixture[str], flow: str | None, data: str, recipe: str) -> dict[str, Any]:
    settings.show_settings(flow, data, recipe, as_json=True)
    found = json.loads(capsys.readouterr().out)
    return found | {"settings": {setting["name"]: setting for setting in found["settings"]}}


@pytest.mark.parametrize("flow", flows.names())
def test_all_are_listed(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, flow, "patches", "fast")["settings"]
    assert found.keys() == {*TrainingOptions.model_fields, *flows.load(flow).Options.model_fields}
    assert all(setting["meaning"] for setting in found.values())


def test_the_defaults_are_those_for_flow_data_and_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    fast = document(capsys, "maf", "gas", "fast")["settings"]
    paper = document(capsys, "maf", "mnist", "paper")["settings"]
    assert (fast["activation"]["default"], fast["batch_size"]["default"]) == ("tanh", None)
    assert (paper["hidden"]["default"], paper["batch_size"]["default"]) == ([1024, 1024], 100)
    with pytest.raises(UsageError, match="no dataset 'gasp'"):
        document(capsys, "maf", "gasp", "fast")
    with pytest.raises(UsageError, match="unknown flow 'mav'"):
        document(capsys, "mav", "gas", "fast")


def test_without_a_flow_those_of_all_flows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    settings.show_settings(None, "patches", "fast", as_json=False)
    shown = capsys.readouterr().out
    assert "flow (iaf, maf)" in shown
    assert "flow (realnvp)" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("  clip_norm")]
    assert "5.0" in line
    assert "(number > 0 or none)" in line
    (line,) = [line for line in shown.splitlines() if line.startswith("  hidden")][:1]
    assert "512,512" in line
    assert "(list of whole numbers ≥ 1)" in line


@pytest.mark.parametrize(
    ("kind", "field", "words"),
    [
        (bool, Field(True), "true or false"),
        (int | None, Field(None, ge=2, le=3), "whole number ≥ 2 ≤ 3 or none"),
        (Literal["a", "b"], Field("a"), "a or b"),
        (Literal["a"], Field("a"), "a"),
        (float, Field(0.5, gt=0, lt=1), "number > 0 < 1"),
        (str, Field(""), "text"),
    ],
)
def test_a_type_is_told_in_words(kind: Any, field: Any, words: str) -> None:
    options = type("Options", (Settings,), {"__annotations__": {"x": kind}, "x": field})
    (setting,) = settings._described(options(), "test")
    assert setting.type == words
