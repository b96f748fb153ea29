# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mover between two fake hosts, on a clock that a test's waits move on."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import job as migration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import MoveReporter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.mover import GuestMover
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

URI = "qemu+ssh://root@h2/system"
MIB = 1 << 20
#: No test waits longer than this for a thread; one that works needs a fraction of it.
PATIENCE_S = 10.0


class Clock:
    """Real time, and the time that was slept away."""

    def __init__(self):
        self.slept = 0.0
        self.on_sleep = None

    def __call__(self):
        return time.monotonic() + self.slept

    def sleep(self, seconds):
        self.slept += seconds
        if self.on_sleep:
            self.on_sleep(self)
        time.sleep(0.001)


class Recorder:
    """A journal and a display in memory."""

    def __init__(self):
        self.events = []
        self.lines = []
        self.fails_at = ()
        self.on_event = None

    def write(self, first, *rest, step=None, durable=True, level=0, **data):
        if rest:
            self.lines.append((first, rest[0]))
            return
        if first in self.fails_at:
            raise OSError(28, "No space left on device")
        self.events.append((first, data))
        if self.on_event:
            self.on_event(first, data)

    def due(self, step, phase):
        return True

    def names(self):
        return [name for name, _data in self.events]

    def decisions(self):
        return [data["action"] for name, data in self.events if name == "migration.decision"]


class Rig:
    """Two hosts, a guest on the first, and a mover between them."""

    def __init__(self, cluster, monkeypatch, tmp_path, *, read_only=False, incoming_limit=1):
        self.cluster = cluster
        self.h1, self.h2 = cluster.add_host("h1"), cluster.add_host("h2")
        self.clock, self.recorder = Clock(), Recorder()
        self.interrupted, self.stopping = threading.Event(), threading.Event()
        self.connections = Connections(read_only=read_only)
        self.transferred = []
        monkeypatch.setattr(migration, "POLL_S", 0.01)
        #: the latest round that the control has judged
        self.judged = 0
        react = Control.react

        def judged(control, sample):
            reaction = react(control, sample)
            self.judged = max(self.judged, sample.iteration)
            return reaction

        monkeypatch.setattr(Control, "react", judged)
        # The machine that runs the tests is none of the hosts.
        monkeypatch.setattr(host, "snapshot", functools.partial(host.snapshot, root=tmp_path))
        self.settings = Settings(
            source=Endpoint("h1", "qemu:///system"),
            state_dir=str(tmp_path),
            destinations={"h2": {"connect_uri": URI, "migration_address": None}},
            reserve_bytes=0,
            incoming_limit=incoming_limit,
            boot_id="boot-1",
        )
        self.use()

    def use(self, *, preparation=None, **settings):
        """Make the mover anew, with other settings, and with what is done to each guest around its move."""
        self.settings = dataclasses.replace(self.settings, **settings)
        context = MoveContext(
            self.connections,
            self.settings,
            MoveReporter(self.recorder, self.recorder, lambda: "2026-11-24T02:00:00.000Z"),
            self.interrupted,
            self.stopping,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        self.mover = GuestMover(context, preparation)

    def step(self, guest, destination="h2", **intent):
        return {
            "id": f"s-{guest.name}",
            "guest": {"name": guest.name, "uuid": guest.uuid},
            "source": "h1",
            "destination": destination,
            "intent": intents.normalise({"encryption": "off", **intent}),
        }

    def start(self, guest, **intent):
        return Move(self, self.step(guest, **intent))

    def move(self, guest, **intent):
        """A whole move in one call, for tests that need no steps."""
        return self.start(guest, **intent).result()


class Move(threading.Thread):
    """One move in its own thread."""

    def __init__(self, rig, step, take_link_slot=lambda: True):
        super().__init__(daemon=True)
        self._rig, self._step, self._take_link_slot = rig, step, take_link_slot
        self._result = self._error = None
        self.start()

    def run(self):
        try:
            self._result = self._rig.mover.move(
                self._step, lambda: self._rig.transferred.append(self._step["id"]), self._take_link_slot
            )
        except Exception as error:  # noqa: BLE001 - the test gets it
            self._error = error

    def result(self):
        self.join(PATIENCE_S)
        assert not self.is_alive(), "the move does not end"
        if self._error:
            raise self._error
        return self._result


def until(condition):
    """Wait until something is true, which takes a moment at most."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.002)


def rounds(job, *lefts, first=1):
    """Rounds of pre-copy that leave so many bytes each."""
    sent = job.stats["memory_processed"]
    for iteration, left in enumerate(lefts, first):
        sent += 10 * MIB
        job.step(memory_iteration=iteration, memory_remaining=left, memory_processed=sent, memory_bps=23_900_000)


RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
