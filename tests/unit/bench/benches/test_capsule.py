# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bench of capsules says of what it has seen."""

from __future__ import annotations

from bench.benches import capsule

SEEN = {"running_after_s": 4.0, "down_s": 3.5, "bytes_there": 2 << 20, "bytes_back": 1 << 20}


def row(way, useful, **more):
    return {"part": way, "case": "first move", "way": way, "useful_after_s": useful, **SEEN, **more}


def test_the_best_way_by_hand_counts():
    found = capsule.document([row("capsule", 50.0), row("pre-copy", 200.0), row("suspend-copy-resume", 100.0)])
    assert found["ratios"] == {"first move": 0.5}
    assert capsule.lines(found)[-1] == "first move: 0.50 of the time of the best way by hand"


def test_a_part_alone_has_no_ratio():
    assert capsule.document([row("capsule", 50.0)])["ratios"] == {}


def test_a_row_says_what_changed_and_what_that_allows():
    changed = {"disk": {"compressed_bytes": 3 << 20}, "memory": {"compressed_bytes": 1 << 20}}
    text = capsule.line(row("capsule", 9.5, changed=changed, allowed_s=20.0, limit_s=130.0))
    assert text == (
        "capsule: first move, capsule: runs after 4.0 s, of use after 9.5 s, silent for 3.5 s; 2.00 MiB there,"
        " 1.00 back; 4.00 MiB changed, which allows 20.0 s; limit 130 s"
    )


def test_a_row_says_what_was_predicted_of_the_mode_that_was_chosen():
    predicted = {"useful_s": 60.4, "downtime_s": 48.2, "bytes": 3 << 20}
    measured = {"useful_since_choice_s": 55.0, "predicted_ratio": {"useful": 1.098, "downtime": 0.9}}
    text = capsule.line(row("capsule", 60.0, mode="suspended", predicted=predicted, **measured))
    assert text.endswith(
        "1.00 back; suspended was chosen, predicted 60 s until it is of use, down for 48 s, 3.00 MiB; that was 55.0 s"
        " after the choice (predicted over measured: 1.10, of the time down 0.90)"
    )


def test_a_row_says_how_long_the_move_alone_took():
    text = capsule.line(row("lazy", 10.9, prepared_s=3.2, limit_s=8.0))
    assert text.endswith("1.00 back; 7.70 s after the task began that moves it; limit 8 s")
    assert "limit" not in capsule.line(row("lazy", 10.9, prepared_s=3.2, limit_s=None))


def test_a_way_that_was_given_up_has_no_time_and_counts_for_no_ratio():
    slow = row("pre-copy", None, given_up_s=1200.0)
    assert capsule.line(slow) == ("capsule: first move, pre-copy: not of use after 20 min; 2.00 MiB there, 1.00 back")
    assert capsule.document([row("capsule", 50.0), slow])["ratios"] == {}
