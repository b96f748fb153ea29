# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import explanation
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt


def test_an_error_of_libvirt_moves_no_cursor_and_has_an_end():
    """It may have words of a guest's agent in it: that its file systems cannot be frozen, for example."""
    error = libvirt.libvirtError("unable to execute 'guest-fsfreeze-freeze': \x1b[2J\u202e\n" + "x" * 100_000, 1)
    why = explanation.explained(error)
    assert why["reason"].startswith("libvirt says: unable to execute 'guest-fsfreeze-freeze': \ufffd[2J\ufffd xxx")
    assert len(why["reason"]) <= len("libvirt says: ") + explanation.MOST_OF_LIBVIRT_ERROR


def test_an_error_of_ours_stays_as_it_is():
    assert explanation.explained(KeyError("bug")) is None
