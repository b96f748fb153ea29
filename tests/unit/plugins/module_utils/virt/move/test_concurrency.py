# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.concurrency import Crowd


def test_one_after_the_other_is_no_crowd():
    crowd = Crowd()
    with crowd.sending() as first:
        pass
    with crowd.sending() as second:
        second.leave()
        with crowd.sending() as third:
            pass
    assert not first.crowded
    assert not second.crowded
    assert not third.crowded


def test_whoever_sends_beside_another_for_any_time_is_crowded():
    crowd = Crowd()
    with crowd.sending() as first, crowd.sending() as second:
        second.leave()
        second.leave()
        with crowd.sending() as third:
            pass
    assert first.crowded
    assert second.crowded
    assert third.crowded
    with crowd.sending() as fourth:
        pass
    assert not fourth.crowded
