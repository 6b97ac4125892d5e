"""Small files that prove themselves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbench.data.sealing import sealed, signed, unsealed, unsigned

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text().filter(lambda key: key != "sha256"), JSON, min_size=1, max_size=4)


@given(DOCUMENTS)
def test_what_was_sealed_comes_back_and_is_json(document):
    content = sealed(document)
    assert unsealed(content) == document
    assert {key: value for key, value in json.loads(content).items() if key != "sha256"} == document


@given(DOCUMENTS, st.data())
def test_any_flipped_bit_breaks_a_seal(document, data):
    content = bytearray(sealed(document))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match="written"):
        unsealed(bytes(content))


@given(st.binary())
def test_nothing_else_is_taken_for_sealed(content):
    with pytest.raises(ValueError, match="written"):
        unsealed(content)


@given(st.binary(max_size=50), st.data())
def test_a_signature_holds_the_content_and_what_it_belongs_to(content, data):
    whole = signed(content, "this")
    assert unsigned(whole, "this") == content
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for other, what in ((bytes(flipped), "this"), (whole, "that"), (whole[:-1], "this"), (whole + b"\0", "this")):
        with pytest.raises(ValueError, match="written"):
            unsigned(other, what)
