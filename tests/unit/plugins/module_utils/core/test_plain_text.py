# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import end_of, harmless, one_line


@pytest.mark.parametrize(
    "char", ["\x00", "\x07", "\x1b", "\x7f", "\x80", "\x9b", "\u200f", "\u202e", "\u2066", "\u2069", "\ufeff", "\ud800"]
)
def test_what_moves_a_cursor_or_turns_letters_around_is_replaced(char):
    assert harmless(f"a{char}b") == "a\ufffdb"
    assert one_line(f"a{char}b") == "a\ufffdb"


def test_letters_of_all_languages_stay():
    assert harmless("größe\nשלום\n日本 🐧") == "größe\nשלום\n日本 🐧"


def test_a_text_becomes_one_line_of_so_many_characters():
    assert one_line(ValueError("no\r\n such\t database")) == "no such database"
    assert one_line("x" * 5_000_000, 10) == "xxxxxxxxx…"
    assert one_line("0123456789", 10) == "0123456789"


def test_of_output_the_last_characters_are_kept_line_by_line():
    assert end_of("erste\r\nzweite\rdritte\tä\n".encode(), 100) == "erste\nzweite\ndritte ä"
    assert end_of(b"x" * 5_000_000 + b"\nend", 10) == "xxxxxx\nend"
    assert end_of(b"\xff\x1b[2J", 100) == "\ufffd\ufffd[2J"
    assert end_of(b"", 10) == ""
