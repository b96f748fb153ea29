# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import canonical_json

WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT, lambda one: st.lists(one) | st.dictionaries(TEXT, one), max_leaves=20
)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS)
def test_a_document_has_one_form(document):
    data = canonical_json.canonical(document)
    assert canonical_json.parsed(data) == document
    assert canonical_json.canonical(canonical_json.parsed(data)) == data
    assert data.isascii()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a": 1}', "it is not in the one form that is signed (sorted keys, no spaces, each key once)"),
        (b'{"a":1,"a":1}', "it is not in the one form that is signed (sorted keys, no spaces, each key once)"),
        (b'{"b":1,"a":1}', "it is not in the one form that is signed (sorted keys, no spaces, each key once)"),
        (b'"\\u00C4"', "it is not in the one form that is signed (sorted keys, no spaces, each key once)"),
        (b'{"a":-0}', "it is not in the one form that is signed (sorted keys, no spaces, each key once)"),
        (b"1.0", "1.0 is not a whole number"),
        (b"1e9", "1e9 is not a whole number"),
        (b"NaN", "NaN is not a whole number"),
        (b"9" * 5000, "the number 99999999999999999999… is too large"),
        (b"9007199254740992", "the number 9007199254740992… is too large"),
        (b"[" * 25 + b"]" * 25, "its parts are nested too deeply"),
        (b"[" * 500_000, "its parts are nested too deeply"),
        (b" " * (1024**2 + 1), "it has 1048577 bytes, and 1048576 is the most"),
    ],
    ids=lambda value: value[:12].decode() if isinstance(value, bytes) else "",
)
def test_another_form_is_refused(data, why):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is checked below
        canonical_json.parsed(data)
    assert str(error.value) == why


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", "ä".encode(), b"{}x", b"{1:2}"])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        canonical_json.parsed(data)


@pytest.mark.parametrize("document", [1.5, {1: 2}, {"a": (1, 2)}, {"a": 2**53}, b"x"])
def test_what_has_no_one_form_is_not_written(document):
    with pytest.raises(ValueError, match=r"."):
        canonical_json.canonical(document)
