# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, Verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.resume_check import (
    DestinationEvidence,
    confirm_resume,
)

STEP = {"guest": {"name": "web 1", "uuid": "u"}, "source": "h1", "destination": "h2"}
PAUSED = Verdict("resume_source", "web1 is paused on h1")


@pytest.mark.parametrize(
    ("reached", "ran", "persistent", "in_sight", "words"),
    [
        (True, False, True, False, None),
        (True, False, False, True, None),
        (True, False, False, False, "would have forgotten it in a reboot"),
        (True, True, True, True, "or have gone on from there"),
        (False, False, True, True, "may have been on its way to another host"),
    ],
)
def test_a_paused_guest_goes_on_only_where_the_evidence_excludes_another_one(reached, ran, persistent, in_sight, words):
    evidence = DestinationEvidence(reached, ran, persistent)
    verdict = confirm_resume(STEP, PAUSED, evidence, lambda: in_sight)
    if words is None:
        assert verdict == PAUSED
    else:
        assert (verdict.kind, words in verdict.reason) == ("unclear", True)
        assert "virsh resume 'web 1' on h1" in verdict.remedy


def test_the_destination_is_asked_only_where_its_answer_counts():
    def never():
        raise AssertionError("it was asked")

    assert confirm_resume(STEP, PAUSED, DestinationEvidence(reached=True, persistent=True), never) == PAUSED
    assert confirm_resume(STEP, PAUSED, DestinationEvidence(persistent=False), never).kind == "unclear"


def test_looks_at_the_destination_add_up():
    evidence = DestinationEvidence()
    evidence.add(Side("h2", reachable=True))
    assert (evidence.reached, evidence.ran) == (False, False)
    evidence.add(Side("h2", reachable=True, state="paused"))
    assert (evidence.reached, evidence.ran) == (True, False)
    evidence.add(Side("h2", reachable=True, state="running"))
    evidence.add(Side("h2", reachable=True))
    assert (evidence.reached, evidence.ran) == (True, True)
