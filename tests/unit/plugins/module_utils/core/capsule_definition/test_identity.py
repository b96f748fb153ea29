# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.identity import (
    Identity,
    credentials,
    renamed,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_definition.definitions import (
    domain,
)

NEW = Identity("db2", "5c1f3cbb-67ea-4b6f-8e6c-3fd1a6bb2f55")
MACHINE_ID = "5c1f3cbb67ea4b6f8e6c3fd1a6bb2f55"


def entries(element: ET.Element) -> dict[str, str]:
    found = [entry.text or "" for entry in element.findall("sysinfo[@type='smbios']/oemStrings/entry")]
    return dict(one.partition("=")[::2] for one in found)


def test_name_uuid_and_addresses_are_new():
    given = domain(devices="<interface type='network'><source network='default'/></interface>")
    renamed(given, NEW)
    assert (given.findtext("name"), given.findtext("uuid")) == ("db2", NEW.uuid)
    addresses = [one.get("address") for one in given.findall("devices/interface/mac")]
    assert len(set(addresses)) == 2
    assert all(one.startswith("52:54:00:") and one != "52:54:00:12:34:56" for one in addresses)


def test_the_same_new_uuid_gives_the_same_addresses():
    assert NEW.mac(1) == Identity("other", NEW.uuid).mac(1) != NEW.mac(0)


def test_the_kernel_is_told_that_it_is_a_copy():
    given = domain(domain="<genid>f6f0a1cf-4bd6-4a3c-a28e-62cf3a3ff2ee</genid>")
    renamed(given, NEW)
    assert given.findtext("genid") not in (None, "", "f6f0a1cf-4bd6-4a3c-a28e-62cf3a3ff2ee", NEW.uuid)
    assert len(given.findall("genid")) == 1


def test_a_guest_without_genid_gets_one():
    given = domain()
    renamed(given, NEW)
    assert given.findtext("genid")


def test_systemd_of_the_guest_is_handed_a_unit_that_works_once():
    given = domain()
    renamed(given, NEW)
    assert given.find("os/smbios").get("mode") == "sysinfo"
    found = {name: base64.b64decode(text).decode() for name, text in entries(given).items()}
    assert set(found) == {f"io.systemd.credential.binary:{name}" for name in credentials(NEW)}
    unit = next(text for text in found.values() if text.startswith("[Unit]\nDescription"))
    assert f"ConditionHost=!{MACHINE_ID}\n" in unit
    assert f"echo {MACHINE_ID} > /etc/machine-id" in unit
    assert unit.count("'") == 2


def test_a_second_copy_of_a_copy_has_one_unit_only():
    given = domain(domain="<sysinfo type='smbios'><oemStrings><entry>mine</entry></oemStrings></sysinfo>")
    renamed(given, Identity("db3", "11111111-67ea-4b6f-8e6c-3fd1a6bb2f55"))
    renamed(given, NEW)
    texts = [entry.text for entry in given.findall("sysinfo/oemStrings/entry")]
    assert len(texts) == 3
    assert texts[0] == "mine"


def test_tables_of_the_host_are_not_mixed_with_ours():
    given = domain(boot="<smbios mode='host'/>")
    renamed(given, NEW)
    assert given.find("os/smbios").get("mode") == "host"
    assert given.find("sysinfo") is None


def test_the_uuid_in_the_tables_is_that_of_the_guest():
    given = domain(
        domain="<sysinfo type='smbios'><system><entry name='uuid'>0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10</entry></system>"
        "</sysinfo>"
    )
    renamed(given, NEW)
    assert given.findtext("sysinfo/system/entry") == NEW.uuid


def test_a_kernel_that_the_host_boots_takes_the_machine_id_from_its_arguments():
    given = domain(boot="<cmdline>quiet systemd.machine_id=00000000000000000000000000000000 x</cmdline>")
    renamed(given, NEW)
    assert given.findtext("os/cmdline") == f"quiet x systemd.machine_id={MACHINE_ID}"
