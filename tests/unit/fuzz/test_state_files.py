# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leases, maintenance records, progress lines and all other files: refused, left out, or of use."""

from __future__ import annotations

import contextlib
import datetime
import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import lease as leases
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.replay import replay
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import Moment
from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import progress_lines
from ansible_collections.kvmops.cluster.tests.unit.fuzz.generated import byte_mutations, fuzzed, mutated
from ansible_collections.kvmops.cluster.tests.unit.plugins import test_broken_documents as broken
from ansible_collections.kvmops.cluster.tests.unit.plugins.test_what_people_see import seen

NOON = Moment(datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC), "boot-1", 5000.0)
MINE = leases.Claim("h1", "alice", "r1", force=True)
OTHERS = leases.Claim("h1", "bob", "r2")


def use_lease(data):
    try:
        lease = leases.parsed(data, "h1", "lease.json")
    except leases.LeaseError:
        return
    for claim in (MINE, OTHERS):
        with contextlib.suppress(leases.LeaseError):
            taken = leases.take(lease, claim, NOON)
            assert leases.renew(taken, taken["fence"], NOON)["owner"] == claim.owner
        leases.release(lease, claim, NOON)
    leases.renew(lease, lease["fence"], NOON)
    leases.start_refusal(lease, lease["fence"] + 1, "h1")


@fuzzed(mutated([broken.LEASE, leases.FREE]))
def test_a_lease(lease):
    use_lease(json.dumps(lease))


def test_a_lease_with_other_bytes():
    for data in byte_mutations(json.dumps(broken.LEASE).encode(), "lease"):
        use_lease(data)


def use_record(data):
    try:
        record = maintenance.parsed(data, "x")
    except maintenance.RecordError:
        return
    for state in maintenance.STATES:
        for force in (True, False):
            with contextlib.suppress(maintenance.RecordError):
                asked = maintenance.MaintenanceRequest("h1", state, "alice", None, force)
                json.dumps(maintenance.next_record(record, asked, ["web1"], "2026-11-24T12:00:00Z"))


@fuzzed(mutated([{**broken.RECORD, "autostart": [broken.GUEST]}, maintenance.ACTIVE]))
def test_a_maintenance_record(record):
    use_record(json.dumps(record))


def test_a_maintenance_record_with_other_bytes():
    for data in byte_mutations(json.dumps(broken.RECORD).encode(), "maintenance"):
        use_record(data)


LINES = [
    {"guest": "web1", "destination": "h2", "phase": "pre-copy", "message": "42 %", "level": 0, "percent": 4.2},
    {"phase": "job", "pid": 4711},
    {"phase": "end"},
]


def use_progress(text):
    for line in progress_lines.FollowedFile().feed(text):
        seen(progress_lines.phrase("h1", line))
        progress_lines.color_of(line)
        assert line.get("level", 0) > -(10**20)
        assert line.get("pid", 2) > 1


@fuzzed(mutated(LINES))
def test_a_line_of_progress(line):
    use_progress(json.dumps(line) + "\n")


def test_progress_with_other_bytes():
    data = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    for changed in byte_mutations(data, "progress"):
        use_progress(changed.decode("utf-8", "surrogateescape"))


STARTED = {"intent": {}, "forecast": None, "flags": ["LIVE"], "downtime_ms": 60, "strategy": "pre-copy"}
ROUND = dict.fromkeys(("at_s", "iteration", "remaining_bytes", "processed_bytes", "bytes_per_s"), 5)
JOURNAL = [
    {"seq": 1, "step": "s1", "uuid": "u", "event": "migration.started", "data": STARTED},
    *({"seq": 2, "step": "s1", "event": "migration.iteration", "data": {**ROUND, "iteration": n}} for n in range(3)),
]


@fuzzed(mutated([JOURNAL]))
def test_a_journal_is_replayed(journal):
    replay([json.dumps(entry) for entry in journal])


@pytest.mark.parametrize("name", list(broken.READERS))
def test_a_file_with_other_parts(tmp_path, name):
    reader = broken.READERS[name]

    @fuzzed(mutated([reader.document]))
    def check(document):
        broken.put(tmp_path, reader, json.dumps(document).encode())
        broken.outcome(tmp_path, reader)

    check()


@pytest.mark.parametrize("name", list(broken.READERS))
def test_a_file_with_other_bytes(tmp_path, name):
    reader = broken.READERS[name]
    for data in byte_mutations(json.dumps(reader.document).encode(), name):
        broken.put(tmp_path, reader, data)
        broken.outcome(tmp_path, reader)
