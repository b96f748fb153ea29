# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.standing import Standing, boot_id


def test_this_boot_has_a_name_that_stays():
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_kernel_that_does_not_say_has_no_name_for_its_boot(tmp_path, content):
    path = tmp_path / "boot_id"
    if content is not None:
        path.write_bytes(content)
    assert boot_id(path) is None


@pytest.mark.parametrize(
    ("record", "meant"),
    [
        ({"boot_id": "b", "domain_id": 3}, True),
        ({"boot_id": "b", "domain_id": 4}, False),
        ({"boot_id": "c", "domain_id": 3}, False),
        ({"boot_id": "b"}, False),
        ({}, False),
    ],
)
def test_a_record_is_about_one_qemu(record, meant):
    assert Standing("b", 3).is_meant(record) is meant


def test_without_a_name_for_the_boot_no_record_is_about_it():
    assert not Standing(None, 3).is_meant({"boot_id": None, "domain_id": 3})
