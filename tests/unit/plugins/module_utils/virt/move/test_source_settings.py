# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt does not take along when a guest moves: the mark that it starts with its host, and its checkpoints."""

from __future__ import annotations

import json
import threading
import types

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.guest_migration import GuestMigration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import guest_clock
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import URI, until

FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)


def at_once(job):
    job.complete()


def record(rig, guest):
    return kept_settings.read(rig.settings.state_dir, guest.uuid)


def writes(rig, *calls):
    return [write for write in rig.cluster.writes if write[1] in calls]


def sent_by_a_run_that_died(rig, guest, autostart=True, destination="h2"):
    """libvirt has moved the guest. The run that asked for it has only put its settings on record."""
    kept_settings.store(
        rig.settings.state_dir,
        {
            "schema": kept_settings.SCHEMA,
            "name": guest.name,
            "uuid": guest.uuid,
            "source": "h1",
            "destination": destination,
            "autostart": autostart,
            "checkpoints": [],
        },
    )
    rig.cluster.on_migrate = at_once
    libvirt.open("qemu:///system").lookupByName(guest.name).migrateToURI3(URI, {}, FLAGS)
    rig.cluster.writes.clear()


# --- autostart -------------------------------------------------------------------------------------------------------


def test_a_guest_that_starts_with_its_host_does_so_after_a_move(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    rig.cluster.on_migrate = at_once
    result = rig.move(guest)
    assert rig.h2.guest("web1").autostart
    assert (result["outcome"], result["error"], result["faults"]) == ("moved", None, [])
    assert result["corrected"] == ["set autostart on h2"]
    assert any("set autostart on h2" in line for _phase, line in rig.recorder.lines)
    assert record(rig, guest) is None


def test_nothing_is_set_for_a_guest_without_the_mark(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = at_once
    assert rig.move(guest)["corrected"] == []
    assert not rig.h2.guest("web1").autostart
    assert writes(rig, "virDomainSetAutostart") == []


def test_the_mark_of_an_earlier_definition_there_is_removed(rig):
    guest = rig.h1.add_guest("web1")
    rig.h2.add_guest("web1", uuid=guest.uuid, state=OFF, autostart=True)
    rig.cluster.on_migrate = at_once
    assert rig.move(guest)["corrected"] == ["removed autostart on h2"]
    assert not rig.h2.guest("web1").autostart


def test_a_transient_guest_has_no_mark(rig):
    guest = rig.h1.add_guest("web1", persistent=False)
    rig.cluster.on_migrate = at_once
    assert rig.move(guest)["corrected"] == []
    assert writes(rig, "virDomainSetAutostart") == []


def test_the_mark_is_on_record_before_libvirt_is_asked_to_migrate(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    seen = []

    def migrate(job):
        seen.append(record(rig, guest))
        job.complete()

    rig.cluster.on_migrate = migrate
    rig.move(guest)
    assert seen[0]["autostart"] is True
    assert (seen[0]["source"], seen[0]["destination"]) == ("h1", "h2")
    (started,) = [data for name, data in rig.recorder.events if name == "migration.started"]
    assert started["autostart"] is True


def test_a_guest_whose_mark_cannot_be_put_on_record_is_not_moved(rig, monkeypatch):
    guest = rig.h1.add_guest("web1", autostart=True)

    def full(_state_dir, _kept):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_settings, "store", full)
    result = rig.move(guest)
    assert result["outcome"] == "refused"
    assert result["refusals"][0]["reason"] == (
        f"the autostart mark of web1, which libvirt does not take along, cannot be put on record in"
        f" {rig.settings.state_dir} (No space left on device), so nothing was started"
    )
    assert writes(rig, "virDomainMigrateToURI3") == []


def test_a_mark_that_cannot_be_set_is_told_with_the_command(rig, monkeypatch):
    guest = rig.h1.add_guest("web1", autostart=True)

    def refuse(_domain, _autostart):
        raise libvirt.libvirtError("cannot create autostart directory: Read-only file system", 38)

    monkeypatch.setattr(libvirt.Domain, "setAutostart", refuse)
    rig.cluster.on_migrate = at_once
    result = rig.move(guest)
    assert (result["outcome"], result["corrected"]) == ("moved", [])
    assert result["faults"] == [
        {
            "code": "autostart_not_set",
            "reason": "web1 does not start with h2 (autostart), as it did with h1, and that could not be corrected:"
            " cannot create autostart directory: Read-only file system",
            "remedy": "virsh autostart web1 on h2",
        }
    ]
    assert result["error"].startswith("it has moved, but web1 does not start with h2 (autostart)")
    assert result["error"].endswith("virsh autostart web1 on h2")
    # The next run tries it again.
    assert record(rig, guest)["autostart"] is True


def test_a_destination_that_is_lost_after_the_move_is_told(rig, monkeypatch):
    guest = rig.h1.add_guest("web1", autostart=True)
    rig.cluster.on_migrate = at_once
    ask = rig.mover._context.hosts.domain_at

    def lost(host, uuid):
        if host == "h2":
            raise libvirt.libvirtError("internal error: client socket is closed", 1)
        return ask(host, uuid)

    monkeypatch.setattr(rig.mover._context.hosts, "domain_at", lost)
    result = rig.move(guest)
    assert result["outcome"] == "moved"
    assert result["faults"][0]["remedy"] == ("run it again once h2 answers, or set it: virsh autostart web1 on h2")
    assert record(rig, guest) is not None


def test_a_guest_that_stays_keeps_its_mark_and_leaves_no_record(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    rig.cluster.on_migrate = lambda job: job.fail()
    assert rig.move(guest)["outcome"] == "failed"
    assert rig.h1.guest("web1").autostart
    assert record(rig, guest) is None


def test_an_adopted_migration_keeps_the_mark(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    migrate = libvirt.open("qemu:///system").lookupByName("web1").migrateToURI3
    threading.Thread(target=migrate, args=(URI, {}, FLAGS), daemon=True).start()
    job = guest.wait_for_job()
    move = rig.start(guest)
    # From then on this run may die as well.
    until(lambda: record(rig, guest))
    job.complete()
    result = move.result()
    assert (result["outcome"], result["corrected"]) == ("moved", ["set autostart on h2"])
    assert rig.h2.guest("web1").autostart


def test_a_run_that_finds_the_guest_there_sets_the_mark_that_a_run_that_died_had_on_record(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    sent_by_a_run_that_died(rig, guest)
    assert not rig.h2.guest("web1").autostart
    result = rig.move(guest)
    assert (result["outcome"], result["corrected"]) == ("already_there", ["set autostart on h2"])
    assert rig.h2.guest("web1").autostart
    assert record(rig, guest) is None


def test_a_record_of_a_move_to_another_host_says_nothing_here(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    sent_by_a_run_that_died(rig, guest, destination="h3")
    assert rig.move(guest)["outcome"] == "already_there"
    assert rig.cluster.writes == []


@pytest.mark.parametrize("damage", ['{"schema": "kvmops.kept', "[]", '{"schema": "kvmops.kept_settings/1"}'])
def test_a_damaged_record_says_nothing(rig, damage):
    guest = rig.h1.add_guest("web1", autostart=True)
    sent_by_a_run_that_died(rig, guest)
    (path,) = kept_settings._folder(rig.settings.state_dir).glob("*.json")
    path.write_text(damage)
    assert rig.move(guest)["outcome"] == "already_there"
    assert rig.cluster.writes == []


def test_the_mark_of_a_left_definition_goes_where_the_guest_is(rig):
    guest = rig.h1.add_guest("web1", state=OFF, autostart=True)
    rig.h2.add_guest("web1", uuid=guest.uuid)
    result = rig.move(guest)
    assert result["outcome"] == "already_there"
    assert result["corrected"] == ["removed its definition on h1", "set autostart on h2"]
    assert rig.h2.guest("web1").autostart
    assert rig.h1.guests == {}


def test_a_left_definition_without_the_mark_takes_none_away(rig):
    guest = rig.h1.add_guest("web1", state=OFF)
    rig.h2.add_guest("web1", uuid=guest.uuid, autostart=True)
    assert rig.move(guest)["corrected"] == ["removed its definition on h1"]
    assert rig.h2.guest("web1").autostart


def test_a_record_survives_a_crash_as_a_file(rig):
    guest = rig.h1.add_guest("web1", autostart=True)
    sent_by_a_run_that_died(rig, guest)
    (path,) = kept_settings._folder(rig.settings.state_dir).glob("*.json")
    assert json.loads(path.read_text())["name"] == "web1"
    assert kept_settings.guests(rig.settings.state_dir) == [guest.uuid]


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_checkpoints_are_defined_where_the_guest_is(rig):
    guest = rig.h1.add_guest("web1", checkpoints=["full", "incremental"])
    before = dict(guest.checkpoints)
    rig.cluster.on_migrate = at_once
    result = rig.move(guest)
    assert rig.h2.guest("web1").checkpoints == before
    assert (result["corrected"], result["faults"]) == (["defined 2 of its checkpoints on h2"], [])


def test_a_checkpoint_whose_bitmap_did_not_come_along_is_told(rig):
    guest = rig.h1.add_guest("web1", checkpoints=["full", "monday", "tuesday"])
    rig.h2.lost_bitmaps = ["monday"]
    rig.cluster.on_migrate = at_once
    result = rig.move(guest)
    assert (result["outcome"], result["corrected"]) == ("moved", ["defined 1 of its checkpoints on h2"])
    assert result["faults"] == [
        {
            "code": "checkpoints_not_carried",
            "reason": "h2 does not have monday and tuesday, checkpoints that web1 had on h1: checkpoint inconsistent:"
            " missing or broken bitmap 'monday' for disk 'vda'",
            "remedy": "make the next backup of web1 a full one",
        }
    ]
    assert list(rig.h2.guest("web1").checkpoints) == ["full"]


# --- what was set while the guest ran ---------------------------------------------------------------------------------


def test_a_limit_that_did_not_come_along_is_told_with_the_command(rig):
    guest = rig.h1.add_guest("web1")
    plain = guest.xml

    def forgotten(job):
        job.destination_guest.xml = plain
        job.complete()

    guest.xml = guest.xml.replace("<vcpu", "<cputune><shares>2048</shares></cputune><vcpu")
    rig.cluster.on_migrate = forgotten
    result = rig.move(guest)
    assert (result["outcome"], result["faults"]) == (
        "moved",
        [
            {
                "code": "setting_not_carried",
                "reason": "it had cpu_shares 2048 on h1, and has not on h2",
                "remedy": "virsh schedinfo web1 --set cpu_shares=2048 --live on h2",
            }
        ],
    )


@pytest.mark.parametrize("deflated", [False, True])
def test_a_balloon_is_compared_as_qemu_has_it(rig, deflated):
    """libvirt's own figure at the destination may be from before QEMU knew the size."""
    guest = rig.h1.add_guest("web1", memory_mib=512)
    full = guest.xml
    guest.xml = full.replace('<currentMemory unit="KiB">524288', '<currentMemory unit="KiB">262144')

    def arrives(job):
        job.destination_guest.xml = full
        if not deflated:
            job.destination_guest.balloon.size_kib = job.destination_guest.balloon.target_kib = 262144
        job.complete()

    rig.cluster.on_migrate = arrives
    told = [fault["remedy"] for fault in rig.move(guest)["faults"]]
    assert told == (["virsh setmem web1 262144 --live on h2"] if deflated else [])


# --- a saved memory image ---------------------------------------------------------------------------------------------


def test_a_guest_is_not_moved_to_a_host_that_would_load_an_old_memory_image_of_it(rig):
    guest = rig.h1.add_guest("web1")
    rig.h2.add_guest("web1", uuid=guest.uuid, state=OFF, managed_save=True)
    result = rig.move(guest)
    assert (result["outcome"], result["refusals"]) == (
        "refused",
        [
            {
                "code": "managed_save",
                "reason": "h2 has a saved memory image of web1 (managed save), which is older than the guest, and which"
                " its next start on h2 would load",
                "remedy": "virsh managedsave-remove web1 on h2",
            }
        ],
    )


def test_a_guest_does_not_leave_an_old_memory_image_behind(rig):
    guest = rig.h1.add_guest("web1", managed_save=True)
    result = rig.move(guest)
    assert result["refusals"][0]["remedy"] == "virsh managedsave-remove web1 on h1"


def test_an_image_that_only_shows_when_the_guest_is_there_is_told(rig):
    guest = rig.h1.add_guest("web1")

    def arrives(job):
        job.destination_guest.managed_save = True
        job.complete()

    rig.cluster.on_migrate = arrives
    (fault,) = rig.move(guest)["faults"]
    assert (fault["code"], fault["remedy"]) == ("managed_save", "virsh managedsave-remove web1 on h2")


# --- a disk that nobody was asked about -------------------------------------------------------------------------------


def test_a_disk_that_is_plugged_in_just_before_the_move_refuses_it(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    begin = GuestMigration.begin

    def plugged(migration, move, admitted):
        guest.xml = guest.xml.replace("</devices>", "<disk type='file'><target dev='vdb'/></disk></devices>")
        return begin(migration, move, admitted)

    monkeypatch.setattr(GuestMigration, "begin", plugged)
    result = rig.move(guest)
    assert (result["outcome"], result["refusals"]) == (
        "refused",
        [
            {
                "code": "disk_added",
                "reason": "web1 has got disk vdb since both hosts were asked about it",
                "remedy": "run it again: then they are asked about its disks as they are now",
            }
        ],
    )
    assert writes(rig, "virDomainMigrateToURI3") == []


# --- the clock of a guest that stood still ----------------------------------------------------------------------------


def with_agent(guest):
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    guest.xml = guest.xml.replace("</devices>", f"{channel}</devices>")
    return guest


def test_the_clock_of_a_guest_that_stood_still_is_set(rig):
    guest = with_agent(rig.h1.add_guest("web1", agent=True))
    rig.cluster.on_migrate = lambda job: job.complete(downtime=2300)
    result = rig.move(guest)
    assert (result["corrected"], result["notes"]) == (["set its clock, which was 2.3 s behind"], [])
    assert rig.h2.guest("web1").agent_calls == [("setTime", (None, libvirt.VIR_DOMAIN_TIME_SYNC))]


def test_the_clock_of_a_guest_that_stood_still_for_a_moment_is_left_alone(rig):
    guest = with_agent(rig.h1.add_guest("web1", agent=True))
    rig.cluster.on_migrate = lambda job: job.complete(downtime=1000)
    assert rig.move(guest)["corrected"] == []
    assert rig.h2.guest("web1").agent_calls == []


def test_a_guest_without_an_agent_is_named(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda job: job.complete(downtime=2300)
    result = rig.move(guest)
    assert (result["faults"], result["notes"]) == (
        [],
        ["its clock may be 2.3 s behind, and it has no guest agent to set it: chrony or ntpd in the guest corrects it"],
    )


def test_an_agent_that_does_not_set_the_clock_is_named_with_the_command(rig):
    guest = with_agent(rig.h1.add_guest("web1", agent=True))

    def arrives(job):
        job.destination_guest.agent_error = libvirt.libvirtError(
            "Guest agent is not responding: QEMU guest agent is not connected", libvirt.VIR_ERR_AGENT_UNRESPONSIVE
        )
        job.complete(downtime=2300)

    rig.cluster.on_migrate = arrives
    (note,) = rig.move(guest)["notes"]
    assert note == (
        "its clock may be 2.3 s behind (Guest agent is not responding: QEMU guest agent is not connected):"
        " virsh domtime --sync web1 on h2"
    )


def test_the_words_of_an_agent_that_does_not_set_the_clock_move_no_cursor_and_are_short(rig):
    guest = with_agent(rig.h1.add_guest("web1", agent=True))

    def arrives(job):
        words = "unable to execute QEMU agent command: \x1b[2J\u202e" + "x" * 100_000
        job.destination_guest.agent_error = libvirt.libvirtError(words, libvirt.VIR_ERR_AGENT_UNRESPONSIVE)
        job.complete(downtime=2300)

    rig.cluster.on_migrate = arrives
    (note,) = rig.move(guest)["notes"]
    assert "command: \ufffd[2J\ufffdxxx" in note
    assert len(note) < 500


def test_a_guest_that_cannot_read_its_hardware_clock_is_told_the_time(rig, monkeypatch):
    guest = with_agent(rig.h1.add_guest("web1", agent=True))
    set_time = libvirt.Domain.setTime

    def without_hwclock(domain, time=None, flags=0):
        if flags:
            raise libvirt.libvirtError("internal error: unable to execute QEMU agent command 'guest-set-time'", 1)
        return set_time(domain, time, flags)

    monkeypatch.setattr(libvirt.Domain, "setTime", without_hwclock)
    monkeypatch.setattr(guest_clock, "time", types.SimpleNamespace(time=lambda: 1000.25))
    rig.cluster.on_migrate = lambda job: job.complete(downtime=2300)
    assert rig.move(guest)["corrected"] == ["set its clock, which was 2.3 s behind"]
    (call,) = rig.h2.guest("web1").agent_calls
    assert call == ("setTime", ({"seconds": 1000, "nseconds": 250000000}, 0))


# --- what a left definition shares with the guest --------------------------------------------------------------------


def test_the_state_of_a_tpm_is_kept_when_a_left_definition_is_removed(rig):
    guest = rig.h1.add_guest("web1", state=OFF)
    guest.xml = guest.xml.replace("</devices>", "<tpm model='tpm-crb'><backend type='emulator'/></tpm></devices>")
    rig.h1.tpm_states = {guest.uuid}
    rig.h2.add_guest("web1", uuid=guest.uuid)
    assert rig.move(guest)["corrected"] == ["removed its definition on h1"]
    assert rig.h1.guests == {}
    assert rig.h1.tpm_states == {guest.uuid}


def test_a_left_definition_with_a_tpm_that_cannot_be_removed_is_told_with_the_right_command(rig, monkeypatch):
    guest = rig.h1.add_guest("web1", state=OFF)
    guest.xml = guest.xml.replace("</devices>", "<tpm model='tpm-crb'><backend type='emulator'/></tpm></devices>")
    rig.h2.add_guest("web1", uuid=guest.uuid)

    def refuse(_domain, _flags=0):
        raise libvirt.libvirtError("Timed out during operation: cannot acquire state change lock", 68)

    monkeypatch.setattr(libvirt.Domain, "undefineFlags", refuse)
    (fault,) = rig.move(guest)["faults"]
    assert fault["remedy"] == (
        "remove it there before h1 is rebooted, which might start it again: virsh undefine --keep-nvram --keep-tpm web1"
    )
