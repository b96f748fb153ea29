# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id, uptime_s


def test_this_boot_has_a_name_that_stays():
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_kernel_that_does_not_say_has_no_name_for_its_boot(tmp_path, content):
    path = tmp_path / "boot_id"
    if content is not None:
        path.write_bytes(content)
    assert boot_id(path) is None


def test_the_time_since_the_boot_grows():
    assert 0 < uptime_s() <= uptime_s()
