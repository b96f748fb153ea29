# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from lab.guest import agent_protocol


def test_sizes_agree_with_the_agent():
    assert agent_protocol.REQUEST.size == 24
    assert agent_protocol.REPLY.size == 168
    assert agent_protocol.RECORD.size == 56
