# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import close_handle


class Handle:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


def test_a_connection_is_closed_where_libnbd_can():
    handle = Handle()
    close_handle(handle)
    assert handle.closed == 1


def test_libnbd_of_debian_12_closes_it_with_the_last_reference():
    close_handle(object())
