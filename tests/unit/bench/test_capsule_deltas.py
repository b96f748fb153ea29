# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from bench.benches import capsule
from bench.capsules import golden_update, least_delta

CHANGED = {"blocks": 5752, "bytes": 23_560_192, "compressed_bytes": 6_880_000}


def test_an_update_is_told_beside_what_changed_and_beside_the_package():
    copies = {"h2": 4_860_000, "h3": 4_750_000, "h4": 4_740_000}
    row = {"way": "distribute", "copies": copies, "bytes_there": 4_800_000, "bytes_back": 60_000}
    assert golden_update.told(row, CHANGED, 5_780_000) == (
        "capsule: update, distribute: 4.86 MB to a host at most; 5752 blocks changed, 6.88 MB compressed (0.706, limit"
        " 1.2); the package has 5.78 MB (0.84, limit 2); the source sent 1.013 of one copy for 3 hosts (limit 1.2)"
    )
    alone = {"way": "rsync", "copies": {"h2": 8_650_000}, "bytes_there": 8_600_000, "bytes_back": 50_000}
    assert golden_update.told(alone, CHANGED, 5_780_000).endswith("the package has 5.78 MB (1.50, limit 2)")


def test_a_delta_is_told_with_both_directions():
    row = {
        "case": "5 % of 1 GiB, scattered",
        "way": "capsule_send",
        "bytes_there": 55_700_000,
        "bytes_back": 700_000,
        "changed": {"blocks": 13107, "bytes": 53_686_272, "compressed_bytes": 53_700_000},
        "limit": 1.08,
    }
    assert least_delta.told(row) == (
        "capsule: 5 % of 1 GiB, scattered, capsule_send: 55.70 MB there, 0.70 back; 53.69 MB changed (53.70"
        " compressed): 1.051 (limit 1.08)"
    )


def test_rows_without_times_are_told_as_they_say_it_and_compared_with_nothing():
    row = {"part": "delta", "case": "memory", "way": "capsule_send", "told": "capsule: memory: 1.1 (limit 1.3)"}
    assert capsule.line(row) == "capsule: memory: 1.1 (limit 1.3)"
    assert capsule.document([row])["ratios"] == {}
