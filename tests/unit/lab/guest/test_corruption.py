# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct

from lab.guest import corruption


def test_the_agents_pages_are_told_from_others():
    words = [1234567]
    for dummy in range(511):
        words.append((words[-1] * corruption.MULTIPLIER + corruption.INCREMENT) % corruption.MODULUS)
    assert corruption.is_agents(struct.pack("<512Q", 42, *words[1:]))
    assert not corruption.is_agents(bytes(4096))
    assert not corruption.is_agents(struct.pack("<512Q", *range(512)))
