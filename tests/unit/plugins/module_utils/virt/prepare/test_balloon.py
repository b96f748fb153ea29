# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.ballooning import Freeing
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.balloon import Balloon
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_report import report
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_return import give_back_all
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import Clock

MIB = 1 << 20
FREEING = Freeing(128 * MIB, "pays", "it pays", costs_s=2.0)
FULL_KIB, TARGET_KIB = 512 << 10, 128 << 10


class Rig:
    """A host with a guest, and its balloon."""

    def __init__(self, cluster, tmp_path):
        self.host = cluster.add_host("h1")
        self.guest = self.host.add_guest("web1", rss_kib=500 << 10)
        self.balloon = self.guest.balloon
        self.interrupted = threading.Event()
        self.state_dir = str(tmp_path)
        self.clock = Clock()
        self.began = self.clock()
        self.sizes = []
        self.balloon.on_look = lambda balloon: self.sizes.append(balloon.size_kib)
        self.told = []

    def find(self, uuid=None):
        with virt.connect("qemu:///system", read_only=False):
            return libvirt.open("qemu:///system").lookupByUUIDString(uuid or self.guest.uuid)

    def free(self, freeing=FREEING):
        return Balloon(self.find, self.state_dir, self.interrupted, self.clock, self.clock.sleep).free(freeing)

    def next_run(self):
        give_back_all(
            self.state_dir,
            self.find,
            lambda event, *rest, **_data: self.told.append((event, rest[1])),
            self.clock,
            self.clock.sleep,
        )

    def waited_s(self):
        return self.clock() - self.began

    def record(self):
        return taken_memory.read(self.state_dir, self.guest.uuid)

    def die_with_it_taken(self, full_kib=FULL_KIB, **record):
        """A run takes memory, and is killed with SIGKILL."""
        domain = self.find()
        self.balloon.most_kib = full_kib
        taken_memory.store(
            self.state_dir,
            {
                "schema": taken_memory.SCHEMA,
                "name": "web1",
                "uuid": self.guest.uuid,
                "before_kib": full_kib,
                "target_kib": TARGET_KIB,
                "boot_id": boot_id(),
                "domain_id": domain.ID(),
                **record,
            },
        )
        domain.setMemoryFlags(TARGET_KIB, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        while self.balloon.size_kib > TARGET_KIB:
            domain.memoryStats()


@pytest.fixture
def rig(cluster, tmp_path):
    (tmp_path / "taken_memory").mkdir()
    return Rig(cluster, tmp_path)


def test_what_is_taken_is_given_back_and_the_host_has_its_memory(rig):
    freed = rig.free()
    assert (freed.returned, freed.stopped) == (True, None)
    assert freed.bytes == (500 - 128 - 80) * MIB
    assert min(rig.sizes) == TARGET_KIB
    assert (rig.balloon.size_kib, rig.balloon.target_kib) == (FULL_KIB, FULL_KIB)
    assert rig.record() is None


def test_it_is_on_record_before_it_is_taken(rig):
    seen = []
    rig.balloon.on_look = lambda balloon: seen.append((balloon.target_kib, rig.record() is not None))
    rig.free()
    assert (FULL_KIB, False) in seen
    assert (TARGET_KIB, True) in seen
    assert (TARGET_KIB, False) not in seen


def test_nothing_is_taken_where_it_cannot_be_put_on_record(rig, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(taken_memory, "write_durably", full)
    with pytest.raises(OSError, match="No space"):
        rig.free()
    assert rig.host.cluster.writes == []


def test_a_guest_that_gives_only_a_part_is_not_waited_for_and_gets_it_back(rig):
    rig.balloon.least_kib = 300 << 10
    freed = rig.free()
    assert freed.stopped == "the guest gave 212 MiB and no more"
    assert (freed.returned, freed.bytes) == (True, (500 - 300 - 80) * MIB)
    assert rig.balloon.size_kib == FULL_KIB
    assert rig.clock.slept < 10


def test_a_guest_that_begins_to_swap_gets_it_back_at_once(rig):
    rig.balloon.swaps_kib = 64
    freed = rig.free()
    assert freed.stopped == "the guest came under pressure"
    assert min(rig.sizes) > TARGET_KIB
    assert (freed.returned, rig.balloon.size_kib) == (True, FULL_KIB)


def test_a_guest_whose_need_grew_meanwhile_gets_it_back(rig):
    rig.balloon.need_kib = 300 << 10
    assert rig.free().stopped == "the guest came under pressure"
    assert rig.balloon.size_kib == FULL_KIB


def test_an_interrupt_gives_it_back(rig):
    def look(balloon):
        if balloon.size_kib < FULL_KIB:
            rig.interrupted.set()

    rig.balloon.on_look = look
    freed = rig.free()
    assert freed.stopped == "it was interrupted"
    assert (freed.returned, rig.balloon.size_kib, rig.record()) == (True, FULL_KIB, None)


def test_an_error_while_it_is_taken_gives_it_back(rig):
    def look(balloon):
        if balloon.size_kib < 400 << 10:
            balloon.on_look = None
            raise libvirt.libvirtError("End of file while reading data: Input/output error")

    rig.balloon.on_look = look
    freed = rig.free()
    assert (freed.bytes, freed.returned) == (0, True)
    assert "End of file" in freed.stopped
    assert (rig.balloon.size_kib, rig.record()) == (FULL_KIB, None)


def test_a_daemon_that_is_away_for_a_moment_is_waited_for(rig):
    def look(balloon):
        if balloon.size_kib <= TARGET_KIB:
            rig.host.stop_daemon()
            balloon.on_look = None

    rig.balloon.on_look = look
    rig.clock.on_sleep = lambda clock: clock.slept > 5 and rig.host.start_daemon()
    freed = rig.free()
    assert (freed.returned, rig.balloon.size_kib, rig.record()) == (True, FULL_KIB, None)


def test_a_guest_that_does_not_take_it_back_stays_on_record_for_the_next_run(rig):
    def look(balloon):
        if balloon.size_kib <= TARGET_KIB:
            balloon.most_kib = 400 << 10

    rig.balloon.on_look = look
    freed = rig.free()
    assert not freed.returned
    assert rig.record()["before_kib"] == FULL_KIB
    assert rig.waited_s() >= 30
    rig.balloon.on_look, rig.balloon.most_kib = None, FULL_KIB
    rig.next_run()
    assert (rig.balloon.size_kib, rig.record()) == (FULL_KIB, None)


def test_a_large_guest_that_takes_its_memory_back_is_waited_for(rig):
    rig.die_with_it_taken(full_kib=8 << 20)
    rig.balloon.step_kib = 50 << 10
    rig.next_run()
    assert (rig.balloon.size_kib, rig.record()) == (8 << 20, None)
    assert rig.waited_s() > 35


def test_a_large_guest_that_takes_nothing_more_back_is_not_waited_for(rig):
    rig.die_with_it_taken(full_kib=8 << 20)
    rig.balloon.most_kib = 1 << 20
    rig.next_run()
    assert rig.told[0][0] == "memory.not_returned"
    assert 30 <= rig.waited_s() < 60


def test_a_guest_that_takes_it_back_too_slowly_is_not_waited_for_without_an_end(rig):
    rig.die_with_it_taken()
    rig.balloon.step_kib = 1 << 10
    rig.next_run()
    assert rig.told[0][0] == "memory.not_returned"
    assert 30 <= rig.waited_s() < 60


def test_nothing_more_is_taken_of_a_guest_that_has_not_got_back_what_was_taken_before(rig):
    rig.die_with_it_taken()
    rig.balloon.most_kib = TARGET_KIB
    freed = rig.free()
    assert (freed.bytes, freed.returned) == (0, False)
    assert rig.record()["before_kib"] == FULL_KIB
    assert rig.balloon.target_kib == TARGET_KIB


def test_a_guest_that_ends_meanwhile_has_nothing_to_get_back(rig):
    def look(balloon):
        if balloon.size_kib < 300 << 10:
            rig.guest.state = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)

    rig.balloon.on_look = look
    assert rig.free().returned
    assert rig.record() is None


def test_somebody_who_resized_it_meanwhile_is_not_overruled(rig):
    rig.balloon.size_kib = rig.balloon.target_kib = rig.balloon.most_kib = 100 << 10
    freed = rig.free()
    assert (freed.bytes, freed.stopped) == (0, "somebody has resized it meanwhile")
    assert rig.host.cluster.writes == []


def test_two_runs_do_not_work_on_one_guest(rig):
    with taken_memory.locked(rig.state_dir, rig.guest.uuid) as alone:
        assert alone
        freed = rig.free()
        assert (freed.stopped, freed.returned, freed.busy) == ("another run is at its memory", False, True)
    assert rig.host.cluster.writes == []


# --- after a run that died ----------------------------------------------------------------------------------------


def test_the_next_run_gives_back_what_one_that_died_had_taken(rig):
    rig.die_with_it_taken()
    assert rig.balloon.size_kib == TARGET_KIB
    rig.next_run()
    assert (rig.balloon.size_kib, rig.record()) == (FULL_KIB, None)
    assert rig.told == [("memory.returned", "web1 has all its 512 MiB back; a run that died had taken some of it")]
    rig.next_run()
    assert len(rig.told) == 1


def test_what_a_living_run_has_taken_is_left_to_it(rig):
    rig.die_with_it_taken()
    with taken_memory.locked(rig.state_dir, rig.guest.uuid):
        rig.next_run()
    assert (rig.balloon.size_kib, rig.told) == (TARGET_KIB, [])


def test_a_guest_that_is_not_here_any_more_is_told_once(rig):
    rig.die_with_it_taken()
    del rig.host.guests[rig.guest.uuid]
    rig.next_run()
    ((event, words),) = rig.told
    assert event == "memory.returned"
    assert f"virsh setmem {rig.guest.uuid} {FULL_KIB} --live" in words
    assert taken_memory.guests(rig.state_dir) == []


def test_what_cannot_be_given_back_is_told_with_the_way_to_do_it_by_hand(rig):
    rig.die_with_it_taken()
    rig.balloon.most_kib = 200 << 10
    rig.next_run()
    ((event, words),) = rig.told
    assert event == "memory.not_returned"
    assert f"virsh setmem {rig.guest.uuid} {FULL_KIB} --live" in words
    assert rig.record() is not None


def set_to(rig, kib):
    """Somebody resizes the guest, and the guest follows."""
    rig.balloon.size_kib = rig.balloon.target_kib = rig.balloon.most_kib = kib
    rig.host.cluster.writes.clear()


def test_what_is_on_record_names_the_qemu_that_it_was_taken_of(rig):
    seen = []
    rig.balloon.on_look = lambda _balloon: seen.append(rig.record())
    rig.free()
    (record, *_rest) = [one for one in seen if one]
    assert (record["boot_id"], record["domain_id"]) == (boot_id(), rig.guest.domain_id)


@pytest.mark.parametrize("other", [{"domain_id": 99}, {"boot_id": "another boot"}])
@pytest.mark.parametrize("kib", [64 << 10, TARGET_KIB, 300 << 10, FULL_KIB, 2 * FULL_KIB])
def test_a_guest_that_was_started_anew_keeps_its_size(rig, other, kib):
    rig.die_with_it_taken(**other)
    set_to(rig, kib)
    rig.next_run()
    assert (rig.balloon.size_kib, rig.balloon.target_kib, rig.record()) == (kib, kib, None)
    assert rig.host.cluster.writes == []
    ((event, words),) = rig.told
    assert event == "memory.returned"
    assert words.startswith("web1 runs in another QEMU than the one that a run that died had taken memory of")
    assert words.endswith(f"(it was 512 MiB); if it is too small: virsh setmem {rig.guest.uuid} {FULL_KIB} --live")


@pytest.mark.parametrize("record", [{}, {"boot_id": None}])
@pytest.mark.parametrize("kib", [64 << 10, 2 * FULL_KIB])
def test_a_guest_that_somebody_has_resized_keeps_its_size(rig, record, kib):
    rig.die_with_it_taken(**record)
    set_to(rig, kib)
    rig.next_run()
    assert (rig.balloon.target_kib, rig.record()) == (kib, None)
    assert rig.host.cluster.writes == []
    assert rig.told[0][1].startswith("web1 was resized by somebody since a run that died had taken memory of it")


def test_a_record_of_an_older_version_still_gives_the_memory_back(rig, tmp_path):
    rig.die_with_it_taken()
    old = {key: value for key, value in rig.record().items() if key not in ("boot_id", "domain_id")}
    taken_memory.store(rig.state_dir, old)
    rig.next_run()
    assert (rig.balloon.size_kib, rig.record()) == (FULL_KIB, None)


def test_a_guest_that_is_off_is_told_as_gone(rig):
    rig.die_with_it_taken()
    rig.guest.state = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
    rig.next_run()
    assert "web1 is off or not here" in rig.told[0][1]
    assert rig.record() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "kvmops.taken_memory/1", "uuid": "x"}'])
def test_a_record_that_is_not_whole_does_no_harm(rig, tmp_path, content):
    (tmp_path / "taken_memory" / f"{rig.guest.uuid}.json").write_text(content)
    rig.next_run()
    assert (rig.told, rig.host.cluster.writes) == ([], [])


# --- what a guest reports -----------------------------------------------------------------------------------------


def test_two_reports_tell_whether_it_swaps(rig):
    rig.balloon.swaps_kib = 12
    first = report(rig.find(), None)
    assert first.memory.swapped_bytes is None
    assert first.since(first).swapped_bytes is None
    assert report(rig.find(), None).since(first).swapped_bytes == 12 << 10


def test_a_guest_without_the_driver_reports_its_size_alone(rig):
    rig.balloon.driver = False
    memory = report(rig.find(), 2 * MIB).memory
    assert (memory.current_bytes, memory.usable_bytes, memory.age_s) == (512 * MIB, None, None)
    assert memory.hugepage_bytes == 2 * MIB
