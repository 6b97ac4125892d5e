"""Where a setting's value comes from, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from flowbench import config, flows
from flowbench.config import (
    RunConfig,
    Settings,
    TrainingOptions,
    packaged_layers,
    recipes,
    resolve,
    shipped,
    user_layers,
)
from flowbench.data import registry
from flowbench.errors import UsageError
from flowbench.variational import targets
from flowbench.variational.options import LatentOptions, TargetOptions

RUN = {"flow": "maf", "data": "patches", "recipe": "fast", "seed": 0, "device": "cpu", "threads": 2}


def resolved(packaged: dict[str, Any], user: dict[str, Any], **run: Any) -> RunConfig:
    return resolve(flows.load("maf").Options, packaged, user, **(RUN | run))


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("batch_size = 7\nhidden = [3]\n")
    user = user_layers(file, ["hidden=8,9", "clip_norm=none", "activation=tanh"])
    config = resolved({"batch_size": 5, "transforms": 2}, user)
    assert config.training.batch_size == 7
    assert config.training.clip_norm is None
    assert (
        config.model.model_dump() | {"hidden": (8, 9), "transforms": 2, "activation": "tanh"}
        == config.model.model_dump()
    )


def test_the_users_steps_outrank_packaged_epochs() -> None:
    config = resolved({"max_epochs": 8, "max_steps": 500}, {"max_steps": 3})
    assert (config.training.max_epochs, config.training.max_steps) == (None, 3)
    assert resolved({"max_epochs": 8}, {}).training.max_epochs == 8


def test_an_unknown_key_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="no setting 'batchsize'") as error:
        resolved({}, {"batchsize": 3})
    assert "did you mean batch_size?" in str(error.value.hint)


@pytest.mark.parametrize(
    "user",
    [
        {"batch_size": 0},
        {"learning_rate": "fast"},
        {"hidden": "wide"},
        {"schedule": "steps"},
        {"max_seconds": float("inf")},
        {"transforms": 1.5},
        {"transforms": True},
        {"hidden": True},
        {"hidden": [8, True]},
        {"learning_rate": False},
        {"batch_norm": "maybe"},
    ],
)
def test_a_value_of_the_wrong_kind_is_named(user: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(user))):
        resolved({}, user)


@pytest.mark.parametrize("text", ["batch_size", "=3", "", "hidden=", "hidden= ", "hidden=8\ntransforms=1", "a=\x1b[2J"])
def test_a_setting_has_a_key_and_a_value(text: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        user_layers(None, [text])


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=8", 8), ("a=8,9", [8, 9]), ("a=[8]", [8]), ("a=8 # 9", "8 # 9"), ("a=1], b=[2", "1], b=[2")],
)
def test_a_setting_is_all_that_was_written(text: str, value: object) -> None:
    assert user_layers(None, [text]) == {"a": value}
    assert user_layers(None, [f"a={'[' * 3000}"]) == {"a": "[" * 3000}


def test_a_name_leads_to_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "x.toml").write_text("batch_size = 3")
    monkeypatch.setattr(config, "shipped", lambda name: tmp_path / name)
    assert packaged_layers("../x", "/../../x", "fast") == {}
    (tmp_path / "configs" / "x.toml").write_text("batch_size = 4")
    assert packaged_layers("x", "y", "fast") == {"batch_size": 4}


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, "a = 1 # " + "x" * config.MOST_BYTES, "\xff"])
def test_a_file_of_settings_is_small_and_plain(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"x\.toml"):
        user_layers(tmp_path / "x.toml", [])


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("batch_size = = 3")
    with pytest.raises(UsageError, match=r"x\.toml is not TOML"):
        user_layers(tmp_path / "x.toml", [])
    with pytest.raises(UsageError, match=r"cannot read .*y\.toml"):
        user_layers(tmp_path / "y.toml", [])


def test_an_unknown_recipe_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'papr'") as error:
        packaged_layers("maf", "patches", "papr")
    assert "did you mean paper?" in str(error.value.hint)


def test_the_paper_recipe_is_the_protocol_of_2017() -> None:
    config = resolved(packaged_layers("maf", "power", "paper"), {}, recipe="paper")
    expected = TrainingOptions(
        batch_size=100,
        optimizer="adam-inner-epsilon",
        learning_rate=1e-4,
        epsilon=1e-8,
        weight_decay=1e-6,
        schedule="constant",
        warmup_steps=0,
        clip_norm=None,
        plateau=None,
        patience=30,
        max_epochs=None,
        max_steps=None,
        max_seconds=None,
    )
    assert config.training == expected
    assert config.model.model_dump()["log_scale_bound"] is None


def test_a_recipe_has_settings_of_its_own_by_flow() -> None:
    rates = {
        flow: resolved(packaged_layers(flow, "power", "paper"), {}, flow=flow, recipe="paper").training.learning_rate
        for flow in ("made", "maf")
    }
    assert rates == {"made": 1e-3, "maf": 1e-4}


@pytest.mark.parametrize(
    ("data", "recipe", "hidden", "activation"),
    [
        ("power", "paper", (100, 100), "relu"),
        ("gas", "paper", (100, 100), "tanh"),
        ("hepmass", "paper", (512, 512), "relu"),
        ("miniboone", "paper", (512, 512), "relu"),
        ("bsds300", "paper", (512, 512), "relu"),
        ("mnist", "paper", (1024, 1024), "relu"),
        ("cifar10", "paper", (1024, 1024), "relu"),
        ("mnist", "fast", (1024,), "relu"),
        ("cifar10", "fast", (1024,), "relu"),
        ("gas", "fast", (100, 100), "tanh"),
    ],
)
def test_a_recipe_has_sizes_of_its_own_by_dataset(
    data: str, recipe: str, hidden: tuple[int, ...], activation: str
) -> None:
    config = resolved(packaged_layers("maf", data, recipe), {}, data=data, recipe=recipe)
    assert (config.model.model_dump()["hidden"], config.model.model_dump()["activation"]) == (hidden, activation)
    assert recipe == "fast" or config.training.batch_size == 100  # the data's own, of another recipe, does not count


def test_the_user_outranks_a_recipes_sizes_for_the_data() -> None:
    config = resolved(packaged_layers("maf", "mnist", "paper"), {"hidden": 7}, data="mnist", recipe="paper")
    assert config.model.model_dump()["hidden"] == (7,)


@pytest.mark.parametrize("options", [TrainingOptions, *(flows.load(name).Options for name in flows.names())])
def test_every_setting_says_what_it_means(options: type[Settings]) -> None:
    assert all(field.description for field in options.model_fields.values())


VARIATIONAL = {
    "posterior": (LatentOptions, "data", registry.names),
    "fit-target": (TargetOptions, "target", targets.names),
}
"""Commands' own files of settings: their options, and what they have tables of."""


@pytest.mark.parametrize("name", VARIATIONAL)
def test_every_packaged_setting_of_a_command_exists(name: str) -> None:
    settings = tomllib.loads((shipped("configs") / f"{name}.toml").read_text())
    options, what, there = VARIATIONAL[name]
    tables = {kind: settings.pop(kind, {}) for kind in (what, "flow", "recipe")}
    assert tables[what].keys() <= set(there())
    assert tables["flow"].keys() <= set(flows.names())
    known = {*TrainingOptions.model_fields, *options.model_fields}.union(
        *(flows.load(flow).Options.model_fields for flow in flows.names())
    )
    every = [settings, *(table for kind in tables.values() for table in kind.values())]
    assert all(each.keys() <= known for each in every)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(shipped("configs").glob("[!s]*.toml")) if path.stem not in VARIATIONAL],
    ids=lambda path: path.stem,
)
def test_every_packaged_setting_exists(path: Path) -> None:
    settings = tomllib.loads(path.read_text())
    by_data, by_flow = (settings.pop(kind, {}) if path.stem.startswith("recipe-") else {} for kind in ("data", "flow"))
    assert by_data.keys() <= set(registry.names())
    assert by_flow.keys() <= set(flows.names())
    shared = path.stem.startswith(("recipe-", "data-"))
    takers = [name for name in flows.names() if shared or path.stem == name or path.stem.startswith(f"{name}-")]
    assert takers
    known = {*TrainingOptions.model_fields}.union(*(flows.load(name).Options.model_fields for name in takers))
    assert settings.keys() <= known
    assert all(table.keys() <= known for table in by_data.values())


def test_the_digest_names_configuration_and_data() -> None:
    first = resolved({}, {})
    assert first.digest("a") == resolved({}, {}).digest("a")
    assert len({first.digest("a"), first.digest("b"), resolved({}, {"batch_size": 3}).digest("a")}) == 3
    assert recipes() == ["fast", "best", "paper"]
