# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance as record
from ansible_collections.kvmops.cluster.plugins.module_utils.run import split_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import cordon, maintenance_record
from ansible_collections.kvmops.cluster.plugins.modules import host_maintenance
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit import hostile


class World:
    def __init__(self, run_module, cluster, path):
        self.host = cluster.add_host("h1")
        self.cluster = cluster
        self.state_dir = path / "state"
        self.fact = path / "facts.d" / "kvmops.fact"
        self._run = run_module

    def ask(self, state, **arguments):
        return self._run(host_maintenance, state=state, name="h1", state_dir=str(self.state_dir), **arguments)

    @property
    def file(self):
        return json.loads((self.state_dir / "maintenance.json").read_text())

    @property
    def published(self):
        return cordon.read(libvirt.openReadOnly("qemu+ssh://root@h1/system"))


@pytest.fixture
def world(run_module, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "FACT", tmp_path / "facts.d" / "kvmops.fact")
    monkeypatch.setattr(split_guests, "FACT", tmp_path / "facts.d" / "kvmops_split.fact")
    return World(run_module, cluster, tmp_path)


def test_a_cordon_is_seen_in_the_file_the_fact_and_from_other_hosts(world):
    result = world.ask("cordoned", owner="alice@admin1", reason="DIMM swap, ticket 4711 «über»")
    assert result["changed"]
    kept = result["maintenance"]
    assert (kept["schema"], kept["state"], kept["owner"]) == ("kvmops.maintenance/1", "cordoned", "alice@admin1")
    assert world.file == kept == world.published
    assert str(world.fact.readlink()) == str(world.state_dir / "maintenance.json")


def test_the_same_again_changes_nothing_and_keeps_since(world):
    first = world.ask("cordoned", owner="alice@admin1", reason="DIMM")
    again = world.ask("cordoned", owner="alice@admin1")
    assert not again["changed"]
    assert again["maintenance"] == first["maintenance"]
    other = world.ask("cordoned", owner="alice@admin1", reason="PSU")
    assert other["changed"]
    assert (other["maintenance"]["reason"], other["maintenance"]["since"]) == ("PSU", first["maintenance"]["since"])


def test_someone_elses_host_is_not_taken_over_silently(world):
    since = world.ask("cordoned", owner="alice@admin1", reason="DIMM swap")["maintenance"]["since"]
    for state in ("cordoned", "maintenance", "active"):
        refused = world.ask(state, owner="bob@admin2")
        assert refused["failed"]
        assert refused["msg"] == (
            f"h1 is cordoned by alice@admin1 since {since} (DIMM swap): ask alice@admin1, or take it over with "
            "force=true"
        )
    assert world.file["owner"] == "alice@admin1"
    taken = world.ask("cordoned", owner="bob@admin2", force=True)
    assert (taken["changed"], taken["maintenance"]["owner"], taken["maintenance"]["reason"]) == (
        True,
        "bob@admin2",
        None,
    )


def test_maintenance_is_refused_while_guests_run(world):
    world.host.add_guest("web1")
    world.host.add_guest("my db")
    off = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    world.host.add_guest("off", state=off)
    refused = world.ask("maintenance", owner="alice@admin1")
    assert refused["msg"] == (
        "h1 cannot go into maintenance: my db and web1 still run there: drain the host first "
        "(kvmops.cluster.drain_host), or shut them down"
    )
    assert not (world.state_dir / "maintenance.json").exists()
    assert world.ask("cordoned", owner="alice@admin1")["changed"]


@pytest.fixture
def at_looks(monkeypatch):
    """Have things happen after each look at the guests of the host, in turn."""

    def arrange(*happenings):
        left = list(happenings)
        real = libvirt.Connection.listAllDomains

        def look(connection, flags=0):
            found = real(connection, flags)
            if left:
                left.pop(0)()
            return found

        monkeypatch.setattr(libvirt.Connection, "listAllDomains", look)

    return arrange


@pytest.mark.parametrize("first", ["cordoned", "maintenance"])
def test_of_two_that_write_at_once_the_second_sees_what_the_first_wrote(world, at_looks, first):
    told = {}

    def bob():
        try:
            connection = libvirt.open("qemu:///system")
            request = record.MaintenanceRequest("h1", "cordoned", "bob@admin2", None, force=False)
            told["change"] = maintenance_record.apply(connection, request, world.state_dir, check_mode=False)
        except record.RecordError as error:
            told["refusal"] = error.refusal

    second = threading.Thread(target=bob)

    def come_second():
        second.start()
        # Long enough for whoever does not wait.
        second.join(0.3)

    at_looks(come_second)
    assert world.ask(first, owner="alice@admin1")["changed"]
    second.join(10)
    assert told["refusal"]["code"] == "maintenance_of_other"
    assert (world.file["owner"], world.published["owner"]) == ("alice@admin1", "alice@admin1")


def test_marks_that_one_run_records_are_not_lost_to_another(world, at_looks):
    off = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    guest = world.host.add_guest("web1", state=off, autostart=True)
    world.ask("cordoned", owner="alice@admin1")

    def close():
        connection = libvirt.open("qemu:///system")
        request = record.MaintenanceRequest("h1", "maintenance", "alice@admin1", None, force=False)
        maintenance_record.apply(connection, request, world.state_dir, check_mode=False)

    second = threading.Thread(target=close)
    at_looks(lambda: (second.start(), second.join(0.3)))
    world.ask("cordoned", owner="alice@admin1", reason="DIMM")
    second.join(10)
    assert world.file["autostart"] == [{"name": "web1", "uuid": guest.uuid}]


def test_a_lock_that_is_never_given_back_is_not_waited_for_for_ever(world, monkeypatch):
    monkeypatch.setattr(record, "LOCK_TIMEOUT_S", 0.05)
    with record.locked(world.state_dir, "h1"):
        refused = world.ask("cordoned", owner="alice@admin1")
        assert refused["refusal"]["code"] == "maintenance_locked"
        # Looking waits for nobody.
        assert world.ask("cordoned", owner="alice@admin1", check=True)["changed"]
    assert world.ask("cordoned", owner="alice@admin1")["changed"]


def test_an_open_host_is_closed_before_it_is_proven_empty(world, at_looks):
    seen = []
    at_looks(*[lambda: seen.append((world.published or record.ACTIVE)["state"])] * 3)
    assert world.ask("maintenance", owner="alice@admin1")["maintenance"]["state"] == "maintenance"
    assert seen[-1] == "cordoned"
    assert world.published["state"] == "maintenance"


def test_a_guest_that_comes_before_the_host_is_closed_keeps_it_out_of_maintenance(world, at_looks):
    coming_in = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
    at_looks(lambda: world.host.add_guest("web1", state=coming_in))
    refused = world.ask("maintenance", owner="alice@admin1")
    assert refused["refusal"]["code"] == "guests_running"
    # A refusal changes nothing: whoever had the host open has it open.
    assert world.published is None
    assert not (world.state_dir / "maintenance.json").exists()


def test_a_host_that_is_closed_already_is_not_opened_by_a_refusal(world):
    world.ask("cordoned", owner="alice@admin1")
    world.host.add_guest("web1")
    assert world.ask("maintenance", owner="alice@admin1")["failed"]
    assert world.published["state"] == world.file["state"] == "cordoned"


def test_opening_takes_the_record_back(world):
    world.ask("maintenance", owner="alice@admin1")
    result = world.ask("active", owner="alice@admin1", diff=True)
    assert result["changed"]
    assert result["diff"]["before"]["state"] == "maintenance"
    assert result["diff"]["after"] == result["maintenance"] == record.ACTIVE
    assert world.published is None
    assert world.file == record.ACTIVE
    assert not world.ask("active")["changed"]


def test_check_mode_says_what_would_change_and_cannot_write(world):
    result = world.ask("cordoned", owner="alice@admin1", check=True, diff=True)
    assert result["changed"]
    assert result["diff"]["after"]["state"] == "cordoned"
    assert set(world.cluster.opened) == {("qemu:///system", True)}
    assert world.cluster.writes == []
    assert not world.state_dir.exists()
    assert not world.fact.exists()


def test_an_untouched_host_is_active_already(world):
    assert not world.ask("active")["changed"]


def test_a_run_that_died_half_way_is_finished_by_the_next(world):
    world.ask("cordoned", owner="alice@admin1")
    # Opening writes the file first: the host stays closed for other hosts until the very end.
    record.store(dict(record.ACTIVE), world.state_dir)
    assert world.published["state"] == "cordoned"
    refused = world.ask("active", owner="bob")
    assert "cordoned by alice@admin1" in refused["msg"]
    assert world.ask("active", owner="alice@admin1")["changed"]
    assert world.published is None


def test_without_a_secret_driver_there_is_a_warning_and_the_file(world, monkeypatch):
    # Where a test has imported controller code, Ansible would print warnings instead of returning them.
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text: warnings.append(text))
    world.host.secret_driver = False
    result = world.ask("cordoned", owner="alice@admin1")
    assert result["changed"]
    (warning,) = warnings
    assert warning.startswith("other hosts cannot see the maintenance record: libvirt has no secret driver here")
    assert world.file["state"] == "cordoned"
    assert not world.ask("cordoned", owner="alice@admin1")["changed"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"schema": "kvm', "it is not JSON"),
        ("[]", "its schema is missing"),
        ('{"schema": "kvmops.maintenance/9", "state": "active"}', "its schema is 'kvmops.maintenance/9'"),
        ('{"schema": "kvmops.maintenance/1", "state": "open"}', "its state is 'open'"),
    ],
)
def test_a_damaged_record_is_never_taken_for_active(world, text, why):
    world.state_dir.mkdir()
    (world.state_dir / "maintenance.json").write_text(text)
    refused = world.ask("active", owner="alice@admin1")
    assert refused["refusal"]["code"] == "maintenance_record_damaged"
    assert why in refused["msg"]
    assert world.ask("active", owner="alice@admin1", force=True)["changed"]
    assert world.file == record.ACTIVE


@pytest.mark.parametrize("state", ["active", "cordoned"])
@pytest.mark.parametrize("kind", list(hostile.IN_THE_PLACE_OF_A_FILE))
def test_whatever_is_in_its_place_is_told_and_can_be_replaced(world, kind, state):
    world.state_dir.mkdir()
    hostile.IN_THE_PLACE_OF_A_FILE[kind](world.state_dir / "maintenance.json")
    refused = world.ask(state, owner="alice@admin1")
    assert refused["refusal"]["code"] == "maintenance_record_damaged"
    assert world.ask(state, owner="alice@admin1", force=True)["changed"]
    assert world.file["state"] == state
    assert not (world.state_dir / "maintenance.json").is_symlink()


def test_an_owner_is_needed_to_close_a_host(world):
    result = world.ask("cordoned")
    assert result["failed"]
    assert "owner" in result["msg"]


def test_a_state_directory_that_cannot_be_written(world, tmp_path):
    (tmp_path / "state").write_text("a file")
    result = world.ask("cordoned", owner="alice@admin1")
    assert result["failed"]
    assert "maintenance record" in result["msg"]


# --- guests that start with the host ---------------------------------------------------------------------------------

OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
LEFT = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)


@pytest.fixture
def warned(monkeypatch):
    """What the module warns of."""
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text: warnings.append(text))
    return warnings


def test_a_guest_that_is_off_does_not_start_with_a_host_in_maintenance_and_does_again_afterwards(world):
    guest = world.host.add_guest("old db", state=OFF, autostart=True)
    other = world.host.add_guest("spare", state=OFF)
    result = world.ask("maintenance", owner="alice@admin1")
    assert result["changed"]
    assert not guest.autostart
    marks = [{"name": "old db", "uuid": guest.uuid}]
    assert result["maintenance"]["autostart"] == world.file["autostart"] == world.published["autostart"] == marks
    assert not world.ask("maintenance", owner="alice@admin1")["changed"]
    opened = world.ask("active", owner="alice@admin1")
    assert opened["maintenance"] == record.ACTIVE
    assert (guest.autostart, other.autostart) == (True, False)


def test_the_marks_are_on_disk_before_they_are_removed(world, monkeypatch):
    guest = world.host.add_guest("db", state=OFF, autostart=True)

    def dies(_domain, _autostart):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(libvirt.Domain, "setAutostart", dies)
        with pytest.raises(KeyboardInterrupt):
            world.ask("maintenance", owner="alice@admin1")
    assert world.file["autostart"] == [{"name": "db", "uuid": guest.uuid}]
    assert world.ask("maintenance", owner="alice@admin1")["changed"]
    assert not guest.autostart
    world.ask("active", owner="alice@admin1")
    assert guest.autostart


def test_a_cordoned_host_keeps_the_marks_and_one_from_maintenance_keeps_the_record(world):
    guest = world.host.add_guest("db", state=OFF, autostart=True)
    assert "autostart" not in world.ask("cordoned", owner="alice@admin1")["maintenance"]
    assert guest.autostart
    world.ask("maintenance", owner="alice@admin1")
    taken_over = world.ask("cordoned", owner="bob@admin2", force=True)
    assert taken_over["maintenance"]["autostart"] == [{"name": "db", "uuid": guest.uuid}]
    world.ask("active", owner="bob@admin2")
    assert guest.autostart


def test_a_guest_that_is_gone_when_the_host_is_opened_is_told(world, warned):
    guest = world.host.add_guest("db", state=OFF, autostart=True)
    world.ask("maintenance", owner="alice@admin1")
    del world.host.guests[guest.uuid]
    assert world.ask("active", owner="alice@admin1")["maintenance"] == record.ACTIVE
    assert warned == ["db, which started with h1 (autostart), is not defined there any more"]


def test_a_host_is_not_opened_while_a_mark_cannot_be_set_again(world, monkeypatch):
    guest = world.host.add_guest("db", state=OFF, autostart=True)
    world.ask("maintenance", owner="alice@admin1")

    def refuse(_domain, _autostart):
        raise libvirt.libvirtError("cannot create symlink: Read-only file system", 38)

    with monkeypatch.context() as patched:
        patched.setattr(libvirt.Domain, "setAutostart", refuse)
        refused = world.ask("active", owner="alice@admin1")
    assert refused["msg"] == (
        "db started with h1 (autostart), and that could not be set again: cannot create symlink: Read-only file system:"
        " virsh autostart db on h1, then open it again"
    )
    assert world.file["state"] == "maintenance"
    # By hand is as good.
    guest.autostart = True
    assert world.ask("active", owner="alice@admin1")["maintenance"] == record.ACTIVE


def test_a_host_does_not_go_into_maintenance_while_a_guest_would_start_at_its_boot(world, monkeypatch):
    world.host.add_guest("db", state=OFF, autostart=True)

    def refuse(_domain, _autostart):
        raise libvirt.libvirtError("cannot unlink: Read-only file system", 38)

    monkeypatch.setattr(libvirt.Domain, "setAutostart", refuse)
    refused = world.ask("maintenance", owner="alice@admin1")
    assert refused["msg"] == (
        "db, which is shut off, would start when h1 boots, and that could not be changed: cannot unlink: Read-only file"
        " system: virsh autostart --disable db on h1, then run it again; it is set again when h1 is opened"
    )


def test_a_definition_that_a_migration_left_behind_starts_no_guest_any_more(world, warned):
    guest = world.host.add_guest("web1", state=LEFT, autostart=True)
    assert "autostart" not in world.ask("maintenance", owner="alice@admin1")["maintenance"]
    assert not guest.autostart
    (warning,) = warned
    assert warning == (
        "web1 was sent away from h1 by a migration, and the definition that stayed does not start it any more"
        " (autostart); once it runs elsewhere, that definition is removed by: ansible-playbook kvmops.cluster.recover"
    )
    world.ask("active", owner="alice@admin1")
    assert not guest.autostart


def test_check_mode_tells_the_marks_and_removes_none(world):
    guest = world.host.add_guest("db", state=OFF, autostart=True)
    result = world.ask("maintenance", owner="alice@admin1", check=True)
    assert result["maintenance"]["autostart"] == [{"name": "db", "uuid": guest.uuid}]
    assert guest.autostart
    assert world.cluster.writes == []


@pytest.mark.parametrize("marks", ['"db"', '[{"name": "db"}]', '[{"name": "db", "uuid": 7}]'])
def test_damaged_marks_are_a_damaged_record(world, marks):
    world.state_dir.mkdir()
    text = f'{{"schema": "kvmops.maintenance/1", "state": "maintenance", "autostart": {marks}}}'
    (world.state_dir / "maintenance.json").write_text(text)
    refused = world.ask("active", owner="alice@admin1")
    assert "its autostart is not a list of guests" in refused["msg"]


HALF = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED)
HELD = (
    "h1 holds a half of db1: its memory is split between two hosts by a post-copy, and is lost when either of them is"
    " rebooted: let that move end; if it broke off: ansible-playbook kvmops.cluster.recover (--check says what it would"
    " do)"
)


@pytest.mark.parametrize("state", ["cordoned", "maintenance"])
def test_a_host_that_holds_a_half_of_a_guest_is_not_closed_and_is_marked(world, state):
    world.host.add_guest("db1", state=HALF)
    world.host.add_guest("web1")
    checked = world.ask(state, owner="alice@admin1", check=True)
    assert (checked["msg"], checked["refusal"]["code"]) == (HELD, "split_guests")
    assert not world.state_dir.exists()
    refused = world.ask(state, owner="alice@admin1")
    assert refused["msg"] == HELD
    assert not (world.state_dir / "maintenance.json").exists()
    assert world.published is None
    [mark] = split_guests.marked(str(world.state_dir))
    assert mark["name"] == "db1"
    fact = json.loads((world.fact.parent / "kvmops_split.fact").read_text())
    assert [one["name"] for one in fact["guests"]] == ["db1"]


def test_the_mark_goes_when_the_guest_is_whole(world):
    guest = world.host.add_guest("db1", state=HALF)
    assert world.ask("cordoned", owner="alice@admin1")["failed"]
    guest.state = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)
    assert world.ask("cordoned", owner="alice@admin1")["changed"]
    assert split_guests.marked(str(world.state_dir)) == []
    assert json.loads((world.fact.parent / "kvmops_split.fact").read_text())["guests"] == []


def test_a_host_that_was_closed_before_its_guest_was_split_stays_closed(world):
    world.ask("cordoned", owner="alice@admin1")
    world.host.add_guest("db1", state=HALF)
    assert not world.ask("cordoned", owner="alice@admin1").get("failed")
    assert world.ask("maintenance", owner="alice@admin1")["msg"] == HELD
    assert world.ask("maintenance", owner="alice@admin1", force=True)["msg"] == HELD
    assert world.ask("active", owner="alice@admin1")["changed"]


def test_the_operator_may_keep_guests_away_from_a_half(world):
    world.host.add_guest("db1", state=HALF)
    assert world.ask("cordoned", owner="alice@admin1", force=True)["changed"]
