# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.action.capsule_send import _refused, _row
from ansible_collections.kvmops.cluster.plugins.filter.sends_table import FilterModule
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.sends_table import sends_lines

MIB = 1024**2
WHY = {
    "code": "base_missing",
    "reason": "b3 has no image blocks:77aa, the base of vda",
    "remedy": "seal it there (capsule_base)",
}


def sent(host, **changes):
    row = {
        **_row(host, "h1"),
        "outcome": "sent",
        "sent": 6 * MIB,
        "avoided_by": {"base": 0, "zero": 300 * MIB, "balloon": 0, "previous": 704 * MIB, "hash": 0},
        "bytes_out": 4 * MIB,
        "bytes_back": MIB // 4,
        "seconds": 2.5,
    }
    return {**row, **changes}


def test_each_host_has_a_row_and_what_was_not_sent_to_it():
    rows = [sent("b1"), _row("b2", "b1"), _refused("b3", "b1", WHY)]
    assert sends_lines(rows) == [
        "HOST  FROM  TO SEND  NOT SENT  ON THE LINK   TIME  NOW",
        "b1    h1      6 MiB  1004 MiB      4.2 MiB  2.5 s  sent",
        "b2    b1          -         -            -      -  has it already",
        "b3    b1          -         -            -      -  refused",
        "  b1: not sent: 300 MiB zeros, 704 MiB as in an earlier capsule",
        "  b3: b3 has no image blocks:77aa, the base of vda: seal it there (capsule_base)",
    ]


def test_in_check_mode_nothing_was_on_the_link_and_a_full_copy_says_why():
    why = "the far end has no image that has more in common with this one than zeros"
    row = sent("b1", outcome="would_send", bytes_out=0, bytes_back=0, full_because=[why], avoided_by={})
    assert sends_lines([row]) == [
        "HOST  FROM  TO SEND  NOT SENT  ON THE LINK  TIME  NOW",
        "b1    h1      6 MiB       0 B            -     -  would be sent",
        f"  b1: sent in full: {why}",
    ]


def test_without_hosts_it_says_so():
    assert sends_lines([]) == ["There is no host to send to."]


def test_the_filter_takes_nothing_else():
    sends_table = FilterModule().filters()["sends_table"]
    assert sends_table([_row("b2", "h1")])[1].endswith("has it already")
    with pytest.raises(AnsibleFilterError, match=r"^sends_table: give the rows that kvmops.cluster.capsule_send"):
        sends_table({"hosts": []})
