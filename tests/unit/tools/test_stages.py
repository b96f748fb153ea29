# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

from tools import stages


def test_all_groups_run_in_their_order_also_after_a_failure():
    ran = []

    def run(stage, alone):
        ran.append((stage, alone))
        return stage != "types"

    ended = stages.run_all(["types", "sanity"], run)

    assert ran == [("types", True), ("sanity", True)]
    assert [(stage.stage, stage.ok) for stage in ended] == [("types", False), ("sanity", True)]


def test_stages_of_a_group_run_side_by_side_and_are_told_in_the_order_given():
    meet = threading.Barrier(2, timeout=60)

    def run(stage, alone):
        meet.wait()
        return not alone

    ended = stages.run_all(["units+types"], run)

    assert [(stage.stage, stage.ok) for stage in ended] == [("units", True), ("types", True)]


def test_a_stage_tells_how_it_ended():
    assert stages.Ended("units", ok=False, seconds=61.4).line.split() == ["units", "FAILED", "61", "s"]
