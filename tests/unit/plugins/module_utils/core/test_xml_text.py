# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.tests.unit import hostile


@pytest.mark.parametrize("kind", list(hostile.NO_DEFINITIONS))
def test_what_libvirt_never_writes_is_refused_at_once_and_in_words(kind):
    began = time.monotonic()
    with pytest.raises(xml_text.XmlTextError) as refused:
        xml_text.parsed(hostile.NO_DEFINITIONS[kind])
    assert time.monotonic() - began < 2
    assert str(refused.value).startswith("it")
    assert len(str(refused.value)) < 200
    assert refused.value.refusal["code"] == "xml_unreadable"


def test_nothing_that_is_declared_is_expanded(monkeypatch):
    monkeypatch.setattr(xml_text.ET, "fromstring", lambda text: pytest.fail("it was read"))
    with pytest.raises(xml_text.XmlTextError, match="it declares a document type"):
        xml_text.parsed(hostile.NO_DEFINITIONS["billion laughs"])


@pytest.mark.parametrize(
    "text",
    [
        "<a><!-- <!DOCTYPE a [<!ENTITY x 'y'>]> -->b</a>",
        "<a><![CDATA[b]]><?php <!DOCTYPE ?></a>",
        "<?xml version='1.0'?><a>&#98;</a>",
        "<a>" + "<x>" * 255 + "</x>" * 255 + "</a>",
        "<a k='" + "x" * (2 << 20) + "'>b</a>",
    ],
)
def test_what_xml_has_beside_elements_does_no_harm(text):
    assert xml_text.parsed(text).tag == "a"
