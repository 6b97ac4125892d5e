"""Which code this is."""

from __future__ import annotations

import pytest

from flowbench import revision
from flowbench.data import cache


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A package, and datasets beside it."""
    package, datasets = tmp_path / "flowbench", tmp_path / "datasets"
    for path in (package / "a.py", package / "data" / "b.py", datasets / "c.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.stem)
    monkeypatch.setattr(revision, "PACKAGE", package)
    monkeypatch.setattr(revision, "shipped", lambda name: tmp_path / name)
    yield tmp_path
    _forget()


def _forget():
    revision.code_digest.cache_clear()
    revision.data_code_digest.cache_clear()


def digests():
    _forget()
    return revision.code_digest(), revision.data_code_digest()


@pytest.mark.parametrize(
    ("file", "data_too"), [("flowbench/a.py", False), ("flowbench/data/b.py", True), ("datasets/c.py", True)]
)
def test_other_code_is_told_apart(sources, file, data_too):
    before = digests()
    (sources / file).write_text("other")
    after = digests()
    assert before[0] != after[0]
    assert (before[1] != after[1]) == data_too


def test_a_name_is_code_too(sources):
    before = digests()
    (sources / "flowbench" / "a.py").rename(sources / "flowbench" / "z.py")
    assert digests()[0] != before[0]


def test_a_wheel_s_code_is_that_of_its_checkout(sources, monkeypatch):
    checkout = digests()
    (sources / "datasets").rename(sources / "flowbench" / "_datasets")
    monkeypatch.setattr(revision, "shipped", lambda name: sources / "flowbench" / f"_{name}")
    assert digests() == checkout


def test_what_is_no_source_does_not_count(sources):
    before = digests()
    (sources / "flowbench" / "notes.txt").write_text("x")
    assert digests() == before


def test_prepared_arrays_are_not_shared_between_revisions_of_what_makes_them(sources):
    _forget()
    before = cache.place("d-v1", "fingerprint")
    (sources / "flowbench" / "data" / "b.py").write_text("other")
    _forget()
    assert cache.place("d-v1", "fingerprint") != before
