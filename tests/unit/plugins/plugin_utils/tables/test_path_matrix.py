# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import path_matrix
from ansible_collections.kvmops.cluster.tests.unit.builders import path, uuid_of


def test_paths():
    ports = {"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer from port 49152",
             "remedy": "open TCP 49152-49215"}  # fmt: skip
    cpu = {"code": "cpu", "reason": "h1 lacks avx512f", "remedy": "choose another host"}
    guests = [
        {"name": "web1", "uuid": uuid_of("web1"), "refusals": [cpu]},
        {"name": "ok", "uuid": "x", "refusals": []},
    ]
    lines = path_matrix.matrix_lines(
        [
            path("h1", "h2"),
            path("h1", "h3", ok=False, checks=[ports]),
            path("h2", "h1", guests=guests),
            path("h2", "h3"),
        ]
    )
    assert lines == [
        "FROM \\ TO  h1           h2  h3",
        "h1         -            ok  ports",
        "h2         not 1 guest  -   ok",
        "",
        "h1 -> h3",
        "  ports: no answer from port 49152",
        "    -> open TCP 49152-49215",
        "",
        "h2 -> h1",
        "  web1: h1 lacks avx512f",
        "    -> choose another host",
    ]


def test_a_path_that_was_not_checked():
    assert path_matrix.matrix_lines([path("h1", "h2"), path("h3", "h1")])[2] == "h3         ok  ?"
    assert path_matrix.matrix_lines([]) == ["No path was checked."]
