"""Every recipe in datasets/, held to one contract: a new one is tested without a line more."""

from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from flowbench.data import Card, Dataset, card, gaussian_ll, load, names, raw_status, recipe
from flowbench.data.preprocessing import Dequantise, Logit, Standardise, SubtractMean
from flowbench.flows import Flow
from flowbench.flows.core.density import Density
from flowbench.transforms import Permutation


@cache
def prepared(name: str) -> Dataset:
    if raw_status(name) == "missing":
        pytest.skip(f"the raw files of {name} are not in the data folder")
    return load(name, allow_partial=True)


@pytest.mark.parametrize("name", names())
def test_card_is_complete(name: str) -> None:
    it: Card = card(name)
    assert it.name == name
    assert all((it.title, it.source_url, it.licence, it.citation))
    assert it.version >= 1
    assert min(it.dim, *it.rows) >= 1
    assert it.gaussian_test_ll is not None
    assert it.gaussian_tolerance is not None
    assert it.gaussian_tolerance > 0
    for file in it.files:
        assert all(url.startswith("https://") for url in (file.url, *file.mirrors))
        assert file.sha256 is None or len(file.sha256) == 64
        assert file.md5 is None or len(file.md5) == 32
    members = [PurePosixPath(member) for member in it.ready_made]
    assert all(member.parts[0] == "data" and ".." not in member.parts for member in members)
    # `prepare` tells its sources apart by these
    keys = [*(file.name for file in it.files), *(member.name for member in members)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", names())
def test_arrays_are_what_the_card_says(name: str) -> None:
    data = prepared(name)
    it = data.card
    assert data.dim == it.dim
    assert data.partial == (data.rows != it.rows)
    assert data.name == (f"{name}~{sum(data.rows)}" if data.partial else name)
    for part in (data.train, data.validation, data.test):
        assert isinstance(part, np.memmap)
        assert part.dtype == np.float32
        assert part.flags.c_contiguous
        assert not part.flags.writeable
        assert np.isfinite(part).all()
    assert data.columns is None or len(data.columns) == data.dim
    assert (data.test_groups is None) == (it.space != "patch")
    assert data.test_groups is None or data.test_groups.shape == (len(data.test),)


LAST = {"raw": None, "standardised": Standardise, "logit": Logit, "patch": SubtractMean}


@pytest.mark.parametrize("name", names())
def test_the_preprocessing_leads_from_raw_values_to_the_rows(name: str) -> None:
    """Back to raw values and forth again, noise on steps but for; whole numbers lie within a pixel's range."""
    data = prepared(name)
    assert data.preprocessing is not None
    assert [type(step) for step in data.preprocessing[-1:]] == [kind for kind in [LAST[data.space]] if kind]
    density = Density(Flow(data.dim, Permutation.reverse(data.dim)), data.preprocessing)
    rows = torch.from_numpy(np.float64(data.test[:500]))
    raw, _ = density.transform.inverse(rows)
    noise = [step for step in data.preprocessing if isinstance(step, Dequantise)]
    steps = torch.tensor(noise[0].steps if noise else (0.0,), dtype=torch.float64)
    assert data.space == "patch" or ((raw - raw.round()).abs() < 1e-9)[:, steps.expand(data.dim) == 1].all()
    if data.space == "logit":
        assert raw.min() == 0
        assert raw.max() in (16, 255)
    # the middle of the step that the noise is in; nothing is lost without noise
    there = Density(density.flow, tuple(step for step in data.preprocessing if step not in noise)).transform
    torch.testing.assert_close(there(there.inverse(rows)[0])[0], rows, rtol=1e-4, atol=1e-5)
    exact = there.inverse(rows)[0]
    assert ((exact - raw >= -1e-3 * steps) & (exact - raw <= 1.001 * steps)).all()


@pytest.mark.parametrize("name", names())
def test_the_gaussian_is_fitted_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(name)
    expected = gaussian_ll(data.train, data.test)
    np.testing.assert_array_equal(data.gaussian_lls, expected)
    monkeypatch.setattr("flowbench.data.gaussian.gaussian_ll", lambda *_: pytest.fail("fitted again"))
    np.testing.assert_array_equal(load(name, allow_partial=True).gaussian_lls, expected)


@pytest.mark.parametrize("name", names())
def test_no_row_is_in_two_splits(name: str) -> None:
    data = prepared(name)
    train, validation, test = (
        {hash(row.tobytes()) for row in part} for part in (data.train, data.validation, data.test)
    )
    assert train.isdisjoint(validation)
    assert train.isdisjoint(test)
    assert validation.isdisjoint(test)


@pytest.mark.parametrize("name", names())
def test_gaussian_value(name: str) -> None:
    data = prepared(name)
    # the first half of 2007 alone: 260,640 minutes, 256,869 of them complete
    expected = {"power~256869": (-7.86, 0.06)}.get(
        data.name, (data.card.gaussian_test_ll, data.card.gaussian_tolerance)
    )
    if data.partial and data.name != "power~256869":
        pytest.skip(f"no Gaussian value is known of {data.name}")
    assert gaussian_ll(data.train, data.test).mean() == pytest.approx(expected[0], abs=expected[1])


@pytest.mark.parametrize("name", [name for name in names() if card(name).embedded])
def test_preparing_twice_gives_the_same_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    second = load(name)
    assert first.fingerprint == second.fingerprint
    assert first.stored
    assert second.stored
    assert first.stored.folder != second.stored.folder
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("truth-")])
def test_truth_travels_with_the_test_rows(name: str) -> None:
    data = prepared(name)
    assert data.test_true_ll is not None
    assert data.test_true_ll.dtype == np.float64
    assert data.test_true_ll.shape == (len(data.test),)
    log_prob = recipe(name).log_prob  # type: ignore[attr-defined]
    np.testing.assert_allclose(data.test_true_ll, log_prob(np.float64(data.test)))


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("truth-")])
def test_no_gaussian_beats_the_truth(name: str) -> None:
    data = prepared(name)
    assert data.test_true_ll is not None
    margin = data.test_true_ll - gaussian_ll(data.train, data.test)
    assert margin.mean() > -2 * margin.std() / len(margin) ** 0.5
