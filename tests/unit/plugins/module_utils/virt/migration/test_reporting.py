# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of a move while it runs."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import LinkSignals, MoveReporter

MIB = 1 << 20
STEP = {"id": "s001", "guest": {"name": "web1", "uuid": "u"}}
SAMPLE = Sample(1.5, 1, 61 * MIB, 50 * MIB, int(22.8 * MIB))


class Journal:
    def __init__(self):
        self.lines = []

    def write(self, event, *, step=None, durable=True, **data):
        self.lines.append((event, data))


class ProgressWriter:
    def __init__(self):
        self.lines = []

    def write(self, phase, message, *, step=None, level=0, **figures):
        self.lines.append((phase, message, figures))

    def due(self, step, phase):
        return True


class Told:
    def __init__(self, expected=None):
        self.journal, self.display = Journal(), ProgressWriter()
        reporter = MoveReporter(self.journal, self.display, lambda: "2026-11-24T02:00:00Z")
        self.watcher = reporter.watcher(STEP, LinkSignals(lambda: None, lambda: None), expected)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (None, ""),
        ({"total_s": None}, ""),
        ({"total_s": {"value": None, "low": None, "high": None}}, ""),
        ({"total_s": {"value": 4.31, "low": 4.0, "high": 5.0}}, " (4.3 s forecast)"),
        ({"total_s": {"value": 187.0, "low": 150.0, "high": None}}, " (3 min 07 s forecast)"),
    ],
)
def test_the_forecast_stands_beside_the_progress(expected, words):
    told = Told(expected)
    told.watcher.sampled(SAMPLE, 112 * MIB)
    ((phase, message, figures),) = told.display.lines
    assert phase == "pre-copy"
    assert message == " 45 %, 22.8 MiB/s, 61.0 MiB left, round 1, about 3 s" + words
    assert figures["eta_s"] == 3


def test_figures_that_stand_still_are_shown_once():
    told = Told()
    for at_s in range(5):
        told.watcher.sampled(dataclasses.replace(SAMPLE, at_s=float(at_s)), 112 * MIB)
    assert len(told.display.lines) == 1


def test_a_decision_is_on_record_with_its_reason_and_shown():
    told = Told()
    told.watcher.reacted(Reaction("change_speed", "the first round is sent at the floor of 5 MiB/s", speed_mib_s=5))
    told.watcher.reacted(Reaction("abort", "the link is slow", code="wrong_method", remedy="start again"))
    told.watcher.reacted(Reaction("suspend", "it is stopped"))
    assert [(event, data["action"], data["speed_mib_s"], data["code"]) for event, data in told.journal.lines] == [
        ("migration.decision", "change_speed", 5, None),
        ("migration.decision", "abort", None, "wrong_method"),
        ("migration.decision", "suspend", None, None),
    ]
    assert [(phase, message) for phase, message, _figures in told.display.lines] == [
        ("pre-copy", "the first round is sent at the floor of 5 MiB/s"),
        ("pre-copy", "the link is slow"),
        ("switchover", "it is stopped"),
    ]


def test_a_round_is_on_record_with_what_a_replay_needs():
    told = Told()
    told.watcher.sampled(SAMPLE, 112 * MIB)
    told.watcher.sampled(Sample(5.0, 2, 9 * MIB, 112 * MIB, 20 * MIB), 112 * MIB)
    told.watcher.sampled(Sample(6.0, 3, 8 * MIB, 121 * MIB, 20 * MIB, 0, 500, 20), 112 * MIB)
    first, second = (data for event, data in told.journal.lines if event == "migration.iteration")
    assert first == {
        "at_s": 5.0,
        "iteration": 2,
        "remaining_bytes": 9 * MIB,
        "processed_bytes": 112 * MIB,
        "bytes_per_s": 20 * MIB,
    }
    assert (second["delta_pages"], second["whole_pages"]) == (500, 20)


def mirrored(at_s, left_mib, sent_mib, **more):
    """A sample of a disk of 256 MiB that is copied before memory is sent."""
    return Sample(at_s, 0, 0, 0, 0, left_mib * MIB, disk_total_bytes=256 * MIB, disk_sent_bytes=sent_mib * MIB, **more)


def test_disks_and_memory_are_told_apart():
    told = Told({"total_s": {"value": 9.1, "low": 9.0, "high": 9.5}})
    told.watcher.sampled(mirrored(1.0, 200, 10), 0)
    told.watcher.sampled(mirrored(3.0, 100, 40), 0)
    memory = Sample(6.0, 1, 61 * MIB, 50 * MIB, int(22.8 * MIB), disk_total_bytes=256 * MIB, disk_sent_bytes=64 * MIB)
    told.watcher.sampled(memory, 112 * MIB)
    assert [(phase, message) for phase, message, _figures in told.display.lines] == [
        ("disks", "disk 21 %, memory 0 %, 10.0 MiB sent (9.1 s forecast)"),
        ("disks", "disk 60 %, memory 0 %, 40.0 MiB sent, 15.0 MiB/s, about 2 s (9.1 s forecast)"),
        ("pre-copy", "disk 100 %, memory 45 %, 22.8 MiB/s, 61.0 MiB left, round 1, about 3 s (9.1 s forecast)"),
    ]
    figures = told.display.lines[1][2]
    assert (figures["percent"], figures["eta_s"], figures["rate_bytes_per_s"]) == (60, 2, 15 * MIB)


def test_a_copy_that_stands_still_has_no_end_in_sight():
    told = Told()
    for at_s in (1.0, 2.0):
        told.watcher.sampled(mirrored(at_s, 200, 10), 0)
    assert told.display.lines[1][1] == "disk 21 %, memory 0 %, 10.0 MiB sent, 0.0 MiB/s"
