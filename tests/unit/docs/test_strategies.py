# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operators' table of methods says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import SIMPLEST_FIRST
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Path as Way
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import decide
from ansible_collections.kvmops.cluster.tests.unit.builders import choice

PAGE = (Path(__file__).parents[3] / "docs/strategies.md").read_text("utf-8")
#: Flags that a method asks for, whatever else a move asks for.
OF_METHODS = {"PARALLEL", "COMPRESSED", "AUTO_CONVERGE", "POSTCOPY"}
SETTINGS = {"cache_bytes": 2**28, "throttle_pct": 30, "limit_ms": 30, "after_rounds": 1}


def rows():
    """What libvirt is asked for, by method."""
    table = re.findall(r"^\| `([a-z-]+)` \|[^|]*\| ([^|]*) \|[^|]*\|[^|]*\|$", PAGE, re.MULTILINE)
    return dict(table)


def test_every_method_is_in_the_table_the_simplest_first():
    assert list(rows()) == list(SIMPLEST_FIRST)


@pytest.mark.parametrize("method", SIMPLEST_FIRST)
def test_the_flags_of_a_method_are_those_that_are_told(method):
    made = choice(method=method, settings=SETTINGS, why_not={}, fallbacks=[])
    permitted = intent.normalise({"allow_postcopy": method == "post-copy", "allow_suspend": True})
    decision = decide(permitted, Way("qemu+ssh://root@h2/system", postcopy=True), made, persistent=True)
    told = {flag for flag in OF_METHODS if f"`{flag}`" in rows()[method]}
    assert OF_METHODS.intersection(decision.flags) == told
    for compression in decision.parameters.get("compression", []):
        assert f"`compression={compression}`" in rows()[method]
    if "parallel.connections" in decision.parameters:
        assert f"{decision.parameters['parallel.connections']} channels" in rows()[method]


def test_every_permission_that_opens_a_method_is_named():
    for option in ("allow_postcopy", "allow_suspend", "allow_storage_copy", "max_downtime_ms", "max_slowdown_pct"):
        assert f"`{option}" in PAGE
        assert option in intent.DEFAULTS
