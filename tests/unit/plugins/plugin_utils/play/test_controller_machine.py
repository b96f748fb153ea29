# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_machine import own_uuids

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"


def test_what_a_machine_says_that_its_uuid_is(tmp_path):
    assert own_uuids(tmp_path) == frozenset()
    for place, text in (
        ("sys/class/dmi/id/product_uuid", UUID.upper() + "\n"),
        ("proc/device-tree/vm,uuid", UUID + "\0"),
        ("etc/machine-id", UUID.replace("-", "") + "\n"),
    ):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        assert own_uuids(tmp_path) == {UUID}
        file.write_text("uninitialized\n")
        assert own_uuids(tmp_path) == frozenset()
