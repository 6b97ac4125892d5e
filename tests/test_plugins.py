"""Flows and datasets from outside the package: by path, from plug-in folders and from installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest

from flowbench import plugins
from flowbench.data import card, load, names, registry
from flowbench.errors import UsageError

DATASET = """
import numpy as np
from flowbench.data import Card, Splits
CARD = Card({name!r}, 1, "Outside", "https://x", "CC0", "me", 2, 200, 100, 100, "raw")
def prepare(raw, rng):
    rows = {location} + rng.normal(size=(400, 2))
    return Splits(rows[:200], rows[200:300], rows[300:])
"""
FLOW = '"""A flow from outside."""\nOptions = object\ndef build(dim, options): ...\n'


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def dataset(path: Path, name: str | None = None, location: float = 0.0) -> Path:
    return write(path, DATASET.format(name=name or path.stem, location=location))


def package(site: Path, kind: str, name: str, text: str) -> Path:
    """What installing a package leaves: a module, and the metadata that declare its entry point."""
    path = write(site / f"package_{name}.py", text)
    write(
        site / f"package_{name}-2.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: package-{name}\nVersion: 2.0\n"
    )
    write(site / f"package_{name}-2.0.dist-info/entry_points.txt", f"[flowbench.{kind}]\n{name} = package_{name}\n")
    return path


def by_path(kind: str, name: str, text: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> str:
    return str(write(tmp_path / "anywhere" / f"{name}.py", text))


def by_folder(kind: str, name: str, text: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> str:
    write(tmp_path / "mine" / kind / f"{name}.py", text)
    patch.setenv("FLOWBENCH_PLUGINS", os.pathsep.join([str(tmp_path / "empty"), str(tmp_path / "mine")]))
    return name


def by_package(kind: str, name: str, text: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> str:
    package(tmp_path / "site", kind, name, text)
    patch.syspath_prepend(str(tmp_path / "site"))
    return name


Way = Callable[[str, str, str, Path, pytest.MonkeyPatch], str]
WAYS = pytest.mark.parametrize("way", [by_path, by_folder, by_package])


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file has been given by its path yet."""
    monkeypatch.setattr(plugins, "_given", {})


@WAYS
def test_a_dataset_from_outside_is_loaded_by_its_name(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"outside_{way.__name__}"
    given = way("datasets", name, DATASET.format(name=name, location=5), tmp_path, monkeypatch)
    data = load(given)
    assert (data.name, data.card.title, data.rows) == (name, "Outside", (200, 100, 100))
    assert abs(data.train.mean() - 5) < 0.5
    assert name in names()
    np.testing.assert_array_equal(load(name).test, data.test)  # known by its name from now on


@WAYS
def test_a_flow_from_outside_is_found(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"flow_{way.__name__}"
    given = way("flows", name, FLOW, tmp_path, monkeypatch)
    assert plugins.name_of("flows", given) == name
    found = plugins.find("flows", ["maf"])
    assert list(found) == [name]
    assert found[name].load().build(2, None) is None
    assert found[name].path is not None
    assert name not in plugins.find("datasets", [])


@WAYS
def test_a_plugin_that_fails_to_import_raises_its_own_error(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{way.__name__}"
    given = way("datasets", name, "raise RuntimeError('my own error')", tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match="my own error"):
        load(given)


@WAYS
def test_a_name_that_flowbench_has_is_refused(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = way("datasets", "power", DATASET.format(name="power", location=0), tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="'power' is the name of one of flowbench's datasets"):
        load(given)


def test_two_plugins_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset(tmp_path / "a/datasets/twice.py")
    monkeypatch.setenv("FLOWBENCH_PLUGINS", str(tmp_path / "a"))
    assert load(str(first)).name == "twice"  # the same file by its path is no other plug-in
    second = dataset(tmp_path / "b/datasets/twice.py")
    monkeypatch.setenv("FLOWBENCH_PLUGINS", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    with pytest.raises(UsageError, match="two datasets have the name 'twice'") as caught:
        load("twice")
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_changed_code_is_imported_again_and_its_arrays_are_made_again(tmp_path: Path) -> None:
    path = dataset(tmp_path / "changing.py")
    before = load(str(path))
    assert load(str(path)).fingerprint == before.fingerprint
    dataset(path, location=9)
    after = load(str(path))
    assert after.fingerprint != before.fingerprint
    assert after.train.mean() > 8


def test_a_card_with_another_name_is_refused(tmp_path: Path) -> None:
    """Else published numbers could stand beside it."""
    with pytest.raises(UsageError, match="is named 'mine', but its card 'power'"):
        load(str(dataset(tmp_path / "mine.py", name="power")))


def test_what_is_no_plugin_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not define prepare") as caught:
        card(str(write(tmp_path / "half.py", "CARD = 1")))
    assert "CARD and prepare" in str(caught.value.hint)
    with pytest.raises(UsageError, match="there is no file"):
        load(str(tmp_path / "nowhere.py"))


def test_private_names_and_other_files_are_no_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_shared.py", ".hidden.py", "notes.txt"):
        write(tmp_path / "datasets" / name, "raise RuntimeError")
    monkeypatch.setenv("FLOWBENCH_PLUGINS", str(tmp_path))
    assert registry.plugged_in() == {}


def test_a_dataclass_in_a_plugin_finds_its_annotations(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 7\n"
    )
    assert plugins.import_file(write(tmp_path / "not-an identifier.py", text)).C().x == 7


def flowbench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flowbench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=120, check=False
    )


def test_the_list_says_where_plugins_come_from(tmp_path: Path) -> None:
    path = dataset(tmp_path / "mine/datasets/outside.py")
    package(tmp_path / "site", "flows", "packaged", FLOW)
    environment = {
        "FLOWBENCH_PLUGINS": str(tmp_path / "mine"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]),
    }
    done = flowbench("list", "--json", **environment)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    flows = {flow["name"]: flow for flow in document["flows"]}
    assert flows["packaged"]["summary"] == "A flow from outside."
    assert flows["packaged"]["plugin"] == "package_packaged of package-packaged 2.0"
    assert flows["maf"]["plugin"] is None
    assert {data["name"]: data["plugin"] for data in document["datasets"]}["outside"] == str(path)
    assert f"plug-in: {path}" in flowbench("list", **environment).stdout


def test_a_flow_is_trained_on_a_dataset_of_ones_own(tmp_path: Path) -> None:
    path = dataset(tmp_path / "my_dataset.py")
    done = forked.flowbench("train", "gaussian", "--data", path, "--json", "--out", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["task"]["data"] == "my_dataset"
    assert str(tmp_path) not in record["run"]
