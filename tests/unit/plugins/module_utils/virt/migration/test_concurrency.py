# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.concurrency import SendingMoves


def test_moves_one_after_the_other_do_not_share_the_link():
    moves = SendingMoves()
    with moves.sending() as first:
        pass
    with moves.sending() as second:
        second.end()
        with moves.sending() as third:
            pass
    assert not first.shared_link
    assert not second.shared_link
    assert not third.shared_link


def test_moves_that_send_at_the_same_time_share_the_link():
    moves = SendingMoves()
    with moves.sending() as first, moves.sending() as second:
        second.end()
        second.end()
        with moves.sending() as third:
            pass
    assert first.shared_link
    assert second.shared_link
    assert third.shared_link
    with moves.sending() as fourth:
        pass
    assert not fourth.shared_link
