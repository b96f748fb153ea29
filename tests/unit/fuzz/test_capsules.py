# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes with a capsule is refused, or has the form that it must have."""

from __future__ import annotations

import contextlib
import json

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import (
    capsule_document,
    manifest_format,
    receive_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.canonical_json import canonical
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file, rebuild
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Place
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import needed
from ansible_collections.kvmops.cluster.tests.unit.fuzz.generated import byte_mutations, fuzzed, mutated
from ansible_collections.kvmops.cluster.tests.unit.fuzz.test_definitions import definitions
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import CAPSULE

PLACE = Place(host="h1", disks={"vda": ["/x"]}, nvram=None)


def use_capsule(data):
    with contextlib.suppress(CapsuleError):
        capsule_document.images_of(capsule_document.parsed(data, "x"))


@fuzzed(mutated([CAPSULE]))
def test_a_capsule_with_other_parts(document):
    data = None
    with contextlib.suppress(ValueError):
        data = canonical(document)
    if data is not None:
        use_capsule(data)
    use_capsule(json.dumps(document).encode())
    for read in (image_record.parsed, lambda given, _name, what: receive_state.from_document(given, what)):
        with contextlib.suppress(CapsuleError):
            read(document, "base:x", "x")
    with contextlib.suppress(CapsuleError):
        needed.parsed(json.dumps(document).encode())


def test_a_capsule_with_other_bytes():
    for data in byte_mutations(canonical(CAPSULE), "capsule"):
        use_capsule(data)
        with contextlib.suppress(CapsuleError):
            manifest_format.parsed(data, "x")


def use_definition(data):
    try:
        definition = definition_file.parsed(data)
    except definition_file.DefinitionError:
        return
    rebuild.rebuilt(definition.persistent, "web1", PLACE)


@fuzzed(definitions())
def test_a_definition_in_a_capsule(text):
    use_definition(f"<definition><persistent>{text}</persistent></definition>".encode())
    use_definition(text.encode())


def test_a_definition_in_a_capsule_with_other_bytes():
    text = "<definition><persistent><domain type='kvm'><name>x</name></domain></persistent></definition>"
    for data in byte_mutations(text.encode(), "definition of a capsule"):
        use_definition(data)
