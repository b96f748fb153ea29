# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody watches a drain that somebody else has started, and whose controller dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

SLOW_MBIT = 60
IN_TRANSFER = r"\| pre-copy +\| +\d+ %"


@pytest.fixture
def bob(lab: Lab, tmp_path: Path) -> Iterator[Operator]:
    """Somebody else, in another folder, with an inventory of the same hosts."""
    (tmp_path / "bob").mkdir()
    made = Operator(lab, tmp_path / "bob", user="bob", without=("h4",))
    yield made
    made.leave()


def test_a_drain_is_watched_to_its_end_though_its_controller_dies(lab: Lab, operator: Operator, bob: Operator) -> None:
    lab.fault.slow_link("h1", SLOW_MBIT, both=True)
    try:
        drain = operator.start("drain_host", drain_host_name="h1")
        watch = bob.start("watch", watch_wait_s=300)
        watch.await_text(r"h1: drain-h1-\S+ of alice@\S+ since \S+: \d of \d guests")
        watch.await_text(IN_TRANSFER)
        drain.kill()
    finally:
        lab.fault.mend("h1")

    outcome = watch.finish()

    # The job on the host does all its moves, whoever is gone.
    assert outcome.status == 0, outcome.text
    assert "of alice" in outcome.words
    assert "is over: 4 guests moved." in outcome.words
    assert "No other run moves guests away from h2 and h3." in outcome.words
    assert actual_state.active_on(lab, "h1") == []

    nothing = bob.run("watch")
    assert nothing.status == 0, nothing.text
    assert "No run moves guests away from h1, h2 and h3." in nothing.words
    assert "for run drain-h1 since" in nothing.words
