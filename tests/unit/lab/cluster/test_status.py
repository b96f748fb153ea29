# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from lab.cluster import status


def test_a_table():
    assert status.table([["A", "LONG"], ["wide", "x"]]) == "A     LONG\nwide  x"
