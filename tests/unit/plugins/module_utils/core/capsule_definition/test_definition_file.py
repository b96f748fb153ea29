# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.definition_file import (
    Definition,
    DefinitionError,
    encoded,
    parsed,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_definition.definitions import (
    domain,
)


@pytest.mark.parametrize("running", [None, domain()])
@pytest.mark.parametrize("autostart", [True, False])
def test_what_is_written_is_read_again(running, autostart):
    found = parsed(encoded(Definition(domain(), running, autostart)))
    assert found.autostart is autostart
    assert (found.running is None) is (running is None)
    assert ET.tostring(found.persistent) == ET.tostring(domain())


DEEP = (
    b"<capsule autostart='no'><persistent><domain>" + b"<a>" * 99 + b"</a>" * 99 + b"</domain></persistent></capsule>"
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no XML"),
        (b"\xff\xfe<\x00", "is not UTF-8"),
        (b"<domain/>", "begins with domain, not with capsule"),
        (b"<capsule><persistent><domain/></persistent></capsule>", "begins with capsule"),
        (b"<capsule autostart='no'/>", "has no persistent domain"),
        (b"<capsule autostart='no'><persistent/></capsule>", "has persistent where a domain should be"),
        (b"<capsule autostart='no'><persistent><x/></persistent></capsule>", "has x where a domain should be"),
        (b"<capsule autostart='no'><other><domain/></other></capsule>", "has other where a domain should be"),
        (
            b"<capsule autostart='no'><persistent><domain/></persistent><persistent><domain/></persistent></capsule>",
            "has persistent where a domain should be",
        ),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><capsule autostart='no'>&a;</capsule>", "declares a document type"),
        (DEEP, "more than 40 elements deep"),
        (b" " * (8 * 1024**2 + 1), "is the most"),
    ],
)
def test_what_is_none_is_refused(data, words):
    with pytest.raises(DefinitionError, match=words):
        parsed(data)
