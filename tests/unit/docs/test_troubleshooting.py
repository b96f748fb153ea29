# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/troubleshooting.md has an entry for each code that a refusal can have, and for no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools import refusal_codes

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^### `(\w+)`\n\n(.+?)(?=\n\n|\n?\Z)", re.MULTILINE | re.DOTALL)
ENTRIES = ENTRY.findall(PAGE)
REFUSAL = refusal_codes.MAKER
MAKE = "from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal\n"


@pytest.fixture(scope="module")
def codes():
    return refusal_codes.codes(refusal_codes.read(ROOT))


def test_every_code_has_an_entry(codes):
    described = {code for code, dummy in ENTRIES}

    assert {code: sorted(places) for code, places in codes.items() if code not in described} == {}


def test_every_entry_has_a_code_that_exists(codes):
    assert sorted(code for code, dummy in ENTRIES if code not in codes) == []


def test_no_code_has_two_entries_and_no_heading_is_without_text():
    described = [code for code, dummy in ENTRIES]

    assert sorted(described) == sorted(set(described))
    assert len(described) == len(re.findall(r"^### ", PAGE, re.MULTILINE))


def test_entries_are_short_sentences():
    for code, text in ENTRIES:
        assert text.endswith("."), code
        assert len(text.splitlines()) <= 4, code


def test_roles_decide_by_codes_that_exist(codes):
    """What a role looks for in a refusal must be something that a module can say."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "roles").rglob("*.yml")]
    asked = {code for text in texts for code in re.findall(r"code'?,? (?:'eq', |\| default\(''\) == )'(\w+)'", text)}

    assert {"host_silent", "lease_held", "lease_lost", "left_over_autostart"} <= asked
    assert asked - set(codes) == set()


def found(text: str, **others: str) -> set[str]:
    maker = (ROOT / REFUSAL).read_text(encoding="utf-8")
    return set(refusal_codes.codes({REFUSAL: maker, "plugins/a.py": MAKE + text, **others}))


#: A text, and the codes that are in it.
TEXTS = [
    ('refusal("one", "", "")', {"one"}),
    ('refusal(reason="", remedy="", code="one")', {"one"}),
    ('def f(x):\n return refusal("one" if x else "two", "", "")', {"one", "two"}),
    ('ONE = "one"\nrefusal(ONE, "", "")', {"one"}),
    ('ONE, TWO = "one", "two"\nrefusal(TWO, "", "")', {"two"}),
    ('T = (("x", "one"), ("y", "two"))\ndef f():\n for word, code in T:\n  refusal(code, "", "")', {"one", "two"}),
    ('T = {"x": ("one", 1)}\ndef f(k):\n code, n = T.get(k, T["x"])\n refusal(code, "", "")', {"one"}),
    ('def g():\n return "one", "why"\ndef f():\n code, why = g()\n refusal(code, why, "")', {"one"}),
    ('def g(code):\n return refusal(code, "", "")\ng("one")\ng(code="two")', {"one", "two"}),
    ('class E(Exception):\n def __init__(self, code):\n  refusal(code, "", "")\nE("one")', {"one"}),
    ('class E:\n def __init__(self, code="two"):\n  refusal(code, "", "")\nE("one")', {"one", "two"}),
    ('class R:\n code: str\nT = (R("one"), R(code="two"))\nfor r in T:\n refusal(r.code, "", "")', {"one", "two"}),
    ('x = {"code": "one", "reason": "", "remedy": ""}', {"one"}),
    ('def f(why):\n return refusal(why["code"], "again", "")', set()),
    ("def f(why):\n return refusal(**why)", set()),
]


@pytest.mark.parametrize(("text", "codes"), TEXTS)
def test_codes_are_followed_to_where_they_are_written(text, codes):
    assert found(text) == codes


def test_a_code_of_another_file_is_found():
    package = "ansible_collections.kvmops.cluster.plugins"
    text = f"from {package} import b\nfrom {package}.b import TWO\nrefusal(b.ONE, '', '')\nrefusal(TWO, '', '')"

    assert found(text, **{"plugins/b.py": 'ONE = "one"\nTWO = "two"\n'}) == {"one", "two"}


def test_a_code_that_cannot_be_told_is_an_error():
    with pytest.raises(refusal_codes.UnknownCodeError, match=r"plugins/a\.py:3: str\(x\)"):
        found("def f(x):\n    return refusal(str(x), '', '')")
