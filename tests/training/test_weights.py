"""Weights prove themselves, and are not believed."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from flowbench import flows
from flowbench.data.discrete import Atoms, Category, Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Bounded, Dequantise, Standardise
from flowbench.errors import DataError
from flowbench.training import weights
from flowbench.training.sealed import CHECKSUM, read, sealed
from flowbench.use import trained

GIVEN = (GivenColumn(name="kind", labels=("a", "b", "c")), GivenColumn(name="time", location=1.0, scale=2.0))
COLOUR = Category(name="colour", labels=("red", "blue"))
DISCRETE = Discrete(categories=(COLOUR,), atoms=(Atoms(column=0, values=(0.0,)),))
STEPS = (
    Dequantise(steps=(0.0, 1.0), origin=None),
    Bounded(lower=(None, 0.0), upper=(None, None), margin=(0.0, 0.1)),
    Standardise(location=(0.0, 1.0), scale=(1.0, 2.0)),
)
ABOUT = weights.About(
    config={"seed": 0},
    data="x",
    space="standardised",
    columns=("colour", "a", "b"),
    preprocessing=STEPS,
    given=GIVEN,
    discrete=DISCRETE,
)
OPTIONS = {"hidden": (8, 8), "transforms": 2}


def content(about: weights.About = ABOUT) -> bytes:
    """A small MAF's weights, with all that there may be to know about them."""
    torch.manual_seed(0)
    options = flows.load("maf").Options(**OPTIONS)
    flow = flows.build("maf", 2, options, about.classes, about.discrete)
    return weights.content(flow, "maf", options, about)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "w.safetensors"
    found.write_bytes(content())
    return found


def resealed(path: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: str | None) -> None:
    """Write the file anew, with a checksum that holds."""
    found = read(path)
    changed = {key: value for key, value in {**found.metadata, **metadata}.items() if value is not None}
    path.write_bytes(sealed({**found.tensors, **(tensors or {})}, changed))


def refusal(path: Path) -> str:
    with pytest.raises(DataError, match=path.name) as caught:
        trained.load(path)
    return str(caught.value)


def test_what_is_saved_is_loaded(path: Path) -> None:
    density = trained.load(path).density
    assert np.isfinite(density.log_prob(np.array([[0.0, 3.0, 1.0, 0.5, 1.0], [2.0, 0.0, 0.0, 0.0, 4.0]]))).all()
    assert not {"given", "discrete"} & read(path).metadata.keys()  # said once, in what is about it
    assert content() == path.read_bytes()


def test_a_flipped_bit_anywhere_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    chosen = random.Random(0)
    bits = [chosen.randrange(8 * header) for _ in range(60)] + [chosen.randrange(8 * len(whole)) for _ in range(60)]
    for bit in [*bits, 8 * len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            weights.load(path)


def test_a_checksum_that_is_lost_is_missed(path: Path) -> None:
    found = read(path)
    save_file({key: value.clone() for key, value in found.tensors.items()}, path, found.metadata)
    assert "lost its checksum" in refusal(path)
    resealed(path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"][CHECKSUM] = header["__metadata__"].pop(CHECKSUM)  # the last of them now
    path.write_bytes(content[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(end - 8) + content[end:])
    assert "checksum is not where it belongs" in refusal(path)


def test_a_file_of_the_format_before_says_things_twice_and_must_say_the_same(path: Path) -> None:
    found = read(path)
    state = {key: value.clone() for key, value in found.tensors.items()}
    twice = {"format": "2", "given": "[3, 0]", "discrete": DISCRETE.model_dump_json()}
    save_file(state, path, found.metadata | twice)
    assert trained.load(path).density.given == GIVEN
    for other in ({"given": "[0, 3]"}, {"given": "[]"}, {"discrete": "null"}, {"discrete": "{}"}, {"given": "[1e400]"}):
        save_file(state, path, found.metadata | twice | other)
        assert "given" in (said := refusal(path)) or "discrete" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conditioner.1.weight", "mean", "log_gamma", "first_bias"])
def test_what_is_not_finite_is_the_file_s_fault(name: str, value: float, path: Path) -> None:
    name, tensor = next((key, tensor) for key, tensor in read(path).tensors.items() if key.endswith(name))
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    resealed(path, {name: tensor})
    said = refusal(path)
    assert f"{name} holds {'NaN' if np.isnan(value) else 'an infinite value'}" in said


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int8, torch.bool])
def test_weights_of_another_type_are_not_converted(dtype: torch.dtype, path: Path) -> None:
    name = next(key for key in read(path).tensors if key.endswith("1.weight"))
    resealed(path, {name: read(path).tensors[name].to(dtype)})
    assert "expected torch.float32" in refusal(path)


HOSTILE: dict[str, dict[str, str | None]] = {
    "many transforms": {"options": '{"transforms": 1000000000}'},
    "many layers": {"options": json.dumps({"hidden": [1] * 100_000})},
    "wide layers": {"options": '{"hidden": [30000, 30000]}'},
    "many columns": {"dim": "1000000000"},
    "more columns": {"dim": "1" + "0" * 400},
    "no columns": {"dim": "0"},
    "many classes": {"format": "2", "given": "[1000000000]"},
    "another flow": {"flow": "realnvp"},
    "no flow": {"flow": "x" * 10_000},
    "a path": {"flow": "../../x.py"},
    "deep options": {"options": '{"hidden":' + "[" * 100_000},
    "no options": {"options": None},
    "a format of words": {"format": "three"},
    "format 0": {"format": "0"},
    "a later format": {"format": "4"},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_header_is_not_believed(what: str, path: Path) -> None:
    resealed(path, **HOSTILE[what])
    assert len(refusal(path)) < 1000


def changed(document: Any, where: tuple[Any, ...], value: str) -> str:
    """The document as JSON, with this text at this place."""
    if not where:
        return value
    place = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = "@"
    return json.dumps(document).replace('"@"', value)


ABOUTS: list[tuple[tuple[Any, ...], str]] = [
    *(((), value) for value in ("[]", "null", '"x"', "1", "{", "[" * 100_000)),
    (("columns",), '["a", "b"]'),
    (("columns",), "5"),
    (("preprocessing", 2, "scale"), "[1.0, 0.0]"),
    (("preprocessing", 2, "scale", 0), "NaN"),
    (("preprocessing", 2, "scale", 0), "-1"),
    (("preprocessing", 2, "scale", 0), "1e400"),
    (("preprocessing", 2, "scale", 0), "1" + "0" * 400),
    (("preprocessing", 2, "location"), "[0.0]"),
    (("preprocessing", 1, "lower"), "[]"),
    (("preprocessing", 0, "kind"), '"none"'),
    (("preprocessing",), '[{"kind": "subtract-mean", "levels": 2}]'),
    (("given",), "[]"),
    (("given", 0, "labels"), '["a"]'),
    (("given", 1, "scale"), "0"),
    (("discrete",), "null"),
    (("discrete", "atoms", 0, "column"), "2"),
    (("discrete", "atoms", 0, "column"), "1" + "0" * 400),
    (("discrete", "steps"), "[1.0]"),
    (("discrete", "categories", 0, "labels"), "[]"),
    (("data",), "[" * 10_000 + "]" * 10_000),
]


@pytest.mark.parametrize("place", range(len(ABOUTS)))
def test_what_is_said_about_weights_is_not_believed(place: int, path: Path) -> None:
    where, value = ABOUTS[place]
    resealed(path, about=changed(json.loads(read(path).metadata["about"]), where, value))
    assert len(refusal(path)) < 1000


def places(document: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list):
        inner = enumerate(document)
    return [where, *(found for key, value in inner for found in places(value, (*where, key)))]


VALUES = ["null", "[]", "{}", '"x"', "-1", "0", "1", "2", "64", "1e400", "1e308", "NaN", "true", "[1, 1]", '"nan"']
VALUES += ["1" + "0" * 400, "10000000000", "[" * 2000 + "]" * 2000, "[30000, 30000]", json.dumps([1] * 20_000)]
VALUES += ['"\\ud800"']


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_said_ends_in_a_density_or_a_refusal(path: Path, data: st.DataObject) -> None:
    path.write_bytes(content())
    key = data.draw(st.sampled_from(["about", "options"]))
    document = json.loads(read(path).metadata[key])
    where = data.draw(st.sampled_from(places(document)))
    value = data.draw(st.sampled_from(VALUES) | st.integers().map(str) | st.floats().map(json.dumps))
    resealed(path, **{key: changed(document, where, value)})
    try:
        density = trained.load(path).density
    except DataError:
        return
    density.log_prob(np.zeros((2, len(density.given) + density.dim)))


def test_codes_of_given_classes_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match="have no location and scale"):
        GivenColumn(name="c", labels=("a", "b"), location=1.0)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.safetensors")
    assert "no regular file" in refusal(tmp_path / "w.safetensors")
