# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text


def test_what_python_writes_is_read():
    assert json_text.parsed('{"a": [1, -2.5, true, null, "ö"]}') == {"a": [1, -2.5, True, None, "ö"]}
    assert json_text.parsed('{"a": "ö"}'.encode()) == {"a": "ö"}
    assert json_text.parsed("[" * 60 + "]" * 60)
    assert json_text.parsed("1" * 20) == int("1" * 20)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value (line 1, column 1)"),
        ("{'a': 1}", "Expecting property name enclosed in double quotes (line 1, column 2)"),
        (b"\xff", "it is not a text in UTF-8"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "it has the key 'c' twice"),
        ("[NaN]", "it has NaN, which is no number"),
        ("[-Infinity]", "it has -Infinity, which is no number"),
        ("[1e999]", "it has the number 1e999, which is too large"),
        ("9" * 5000, "it has a number of 5000 digits (" + "9" * 37 + "...)"),
        ("[" * 61 + "]" * 61, "its parts are nested more than 60 deep"),
        ("[" * 200_000, "its parts are nested more than 60 deep"),
        ('{"a":' * 200_000, "its parts are nested more than 60 deep"),
    ],
)
def test_what_no_document_has_is_an_error_in_words(text, why):
    with pytest.raises(json_text.JsonTextError) as caught:
        json_text.parsed(text)
    assert str(caught.value) == why


def test_a_document_that_is_too_large_is_not_even_read(monkeypatch):
    monkeypatch.setattr(json_text, "MOST_BYTES", 10)
    with pytest.raises(json_text.JsonTextError, match=r"^it has 12 bytes, and 10 is the most$"):
        json_text.parsed("[1, 2, 3, 4]")
