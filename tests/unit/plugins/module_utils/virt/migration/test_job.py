# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Path, decide
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.events import Event
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.job import MigrationJob
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

DECISION = decide(intents.normalise({}), Path("qemu+ssh://root@h2/system"), None, persistent=True)


class Events:
    """The events of a host on which nothing happens."""

    def listen(self, _uuid, _listener):
        pass

    def forget(self, _uuid, _listener):
        pass


class Domain:
    def __init__(self):
        self.called = []

    def UUIDString(self):  # noqa: N802
        return "7c3c4f8a-63ca-5da2-bb74-dc6f8fc4553a"

    def name(self):
        return "web1"

    def jobStats(self, _flags=0):  # noqa: N802
        return {"type": libvirt.VIR_DOMAIN_JOB_COMPLETED, "memory_processed": 7}

    def migrateGetMaxDowntime(self, _flags):  # noqa: N802
        return 300

    def migrateSetMaxDowntime(self, limit_ms, _flags):  # noqa: N802
        self.called.append(f"limit {limit_ms}")

    def migrateToURI3(self, uri, _parameters, _flags):  # noqa: N802
        self.called.append(uri)


class Watcher:
    def __getattr__(self, _name):
        return lambda *_arguments, **_named: None


@pytest.fixture
def domain(monkeypatch):
    monkeypatch.setattr(virt, "libvirt", libvirt)
    return Domain()


def run(domain, before):
    job = MigrationJob(domain, "qemu+ssh://root@h2/system", DECISION, Events(), Events(), before=before)
    return job.run(Control(DECISION, None), Watcher(), threading.Event())


def test_what_comes_before_is_done_last_before_libvirt_is_called(domain):
    ending = run(domain, lambda: domain.called.append("before"))
    assert ending.error is None
    assert domain.called == ["limit 60", "before", "qemu+ssh://root@h2/system", "limit 300"]


def test_libvirt_is_not_called_where_that_fails(domain):
    def before():
        raise virt.VirtError(refusal("delta_not_sent", "h1 is full", "make room"))

    ending = run(domain, before)
    assert ending.error == "h1 is full; make room"
    assert domain.called == ["limit 60", "limit 300"]


# --- whether a guest stands still for it -----------------------------------------------------------------------------


class Told:
    """The events of a source that tells one of them while the guest is sent."""

    def __init__(self, detail):
        self._event = Event(0.0, "lifecycle", libvirt.VIR_DOMAIN_EVENT_SUSPENDED, detail)

    def listen(self, _uuid, listener):
        self._listener = listener

    def forget(self, _uuid, _listener):
        pass

    def tell(self):
        self._listener(self._event)


@pytest.mark.parametrize(
    ("detail", "stands_still"),
    [
        ("VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED", True),
        # A connection that is ended then would split the guest.
        ("VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY", False),
        # Its owner has done that.
        ("VIR_DOMAIN_EVENT_SUSPENDED_PAUSED", False),
    ],
)
def test_a_guest_stands_still_for_the_end_of_its_precopy_alone(domain, detail, stands_still):
    events, seen = Told(getattr(libvirt, detail)), []

    def sent(*_arguments):
        seen.append(job.stands_still())
        events.tell()
        end = time.monotonic() + 10
        while job.stands_still() is not stands_still and time.monotonic() < end:
            time.sleep(0.01)
        # The event has been taken once the next turn begins.
        time.sleep(0.5)
        seen.append(job.stands_still())

    domain.migrateToURI3 = sent
    job = MigrationJob(domain, "qemu+ssh://root@h2/system", DECISION, events, Events())
    assert job.stands_still() is False
    job.run(Control(DECISION, None), Watcher(), threading.Event())
    assert seen == [False, stands_still]


def test_a_migration_that_is_aborted_is_awaited_no_longer_than_its_connection_lives(domain):
    seen = []

    def sent(*_arguments):
        interrupted.set()
        end = time.monotonic() + 10
        while not job.stands_still() and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(job.stands_still())

    interrupted = threading.Event()
    domain.migrateToURI3, domain.abortJob = sent, lambda: None
    job = MigrationJob(domain, "qemu+ssh://root@h2/system", DECISION, Events(), Events())
    job.run(Control(DECISION, None), Watcher(), interrupted)
    assert seen == [True]
