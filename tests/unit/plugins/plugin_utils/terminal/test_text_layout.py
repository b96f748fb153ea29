# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import text_layout
from ansible_collections.kvmops.cluster.tests.unit.builders import AWKWARD_NAMES


@pytest.mark.parametrize(
    ("text", "columns"), [("web1", 4), ("größe", 5), ("gro\u0308ße", 5), ("データ", 6), ("🐧", 2), ("", 0)]
)
def test_columns(text, columns):
    assert text_layout.columns(text) == columns


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("web1", 4, "web1"),
        ("prod-eu-west-1-database-primary-0001", 20, "prod-eu-west…ry-0001"),
        ("データベースサーバー01", 12, "データ…ー01"),
        ("n" * 200, 10, "nnnnnn…nnn"),
    ],
)
def test_a_long_name_keeps_both_ends(text, most, shown):
    assert text_layout.short(text, most) == shown
    assert text_layout.columns(shown) <= most


def test_a_name_cannot_move_the_cursor():
    assert text_layout.clean("a\x1b[2Jb\nc\td") == "a\N{REPLACEMENT CHARACTER}[2Jb c d"


def test_columns_line_up_whatever_is_in_them():
    rows = [[name, "x" * 3, "end"] for name in AWKWARD_NAMES]
    lines = text_layout.table(["NAME", "N", "LAST"], rows, right=["N"])
    assert len({text_layout.columns(line[: line.index("xxx")]) for line in lines[1:]}) == 1
    assert max(map(text_layout.columns, lines)) <= text_layout.MOST_NAME_COLUMNS + len("  xxx  LAST")
