# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demonstration says of databases that did not keep what they had promised."""

from __future__ import annotations

import pytest

from demo import databases, words


def section(**record):
    sound = {"commits": 3051, "longest_wait_ms": 845, "errors": [], "lost_rows": []}
    return {"playbook": "drain_host", "databases": {"books": {**sound, **record}}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, []),
        ({"lost_rows": [7, 9]}, ["books: 2 committed rows are lost after drain_host"]),
        (
            {"errors": ["the database closed the connection"]},
            ["books: a client of the database met with an error: the database closed the connection"],
        ),
    ],
)
def test_lost_rows_and_errors_are_faults(record, expected):
    assert databases.faults(section(**record)) == expected


def test_damage_is_told_in_the_databases_own_words(capsys):
    words.databases_checked({"books": None, "shop": "heap table bench.journal, block 3: xmin 7 is ahead"})
    sound, damaged = capsys.readouterr().out.splitlines()
    assert sound == "  yes  books: amcheck and the checksums of all pages: no damage"
    assert damaged == (
        "  NO   shop: amcheck and the checksums of all pages: heap table bench.journal, block 3: xmin 7 is ahead"
    )
