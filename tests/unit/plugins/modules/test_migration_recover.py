# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finishing moves that broke off, between fake hosts."""

from __future__ import annotations

import functools
import signal
import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PATH
from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal as journals
from ansible_collections.kvmops.cluster.plugins.module_utils.run import past_runs, runner, split_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import take_run_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state, host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import job as migration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover import finding, postcopy_resume, recoverer
from ansible_collections.kvmops.cluster.plugins.modules import migration_recover
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

NEW, CRASHES = 12_008_000, 11_003_000
FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_POSTCOPY
)
TOLD = ["LIVE", "PEER2PEER", "ABORT_ON_ERROR", "PERSIST_DEST", "UNDEFINE_SOURCE", "POSTCOPY"]
CONNECT = {
    name: {"connect_uri": f"qemu+ssh://root@{name}/system", "migration_address": f"198.18.0.1{name[1:]}"}
    for name in ("h1", "h2", "h3")
}


class World:
    """Three hosts, and the module on one of them."""

    def __init__(self, run_module, cluster, path):
        self.cluster, self.path = cluster, path
        self.h1, self.h2, self.h3 = (cluster.add_host(name, libvirt=NEW) for name in ("h1", "h2", "h3"))
        self.tried, self.link_fault = [], None
        self._run = run_module

    def recover(self, on="h1", **arguments):
        self.cluster.local = self.cluster.hosts[on]
        given = {"name": on, "connect": CONNECT, "state_dir": str(self.path / on), **arguments}
        return self._run(migration_recover, **given)

    def paths(self, request, destinations):
        """Stands in for the check of the link, which works as root and in processes of its own."""
        self.tried.append((request.source, destinations[0].name, request.encryption))
        checks = [{"check": "ports", "ok": True, "code": "reachable", "reason": "", "remedy": None}]
        if self.link_fault:
            remedy = "check the route from h1 to h2"
            checks = [
                {"check": "ports", "ok": False, "code": "unreachable", "reason": self.link_fault, "remedy": remedy}
            ]
        return [{"schema": PATH, "ok": not self.link_fault, "checks": checks}]

    def broken(self, name="web1", *, recorded=True, flags=None, **settings):
        """A guest whose post-copy from h1 to h2 broke off; returns its job."""
        guest = self.h1.add_guest(name, **settings)
        self.cluster.local = self.h1
        domain = libvirt.open("qemu:///system").lookupByName(name)
        if recorded:
            self.record(domain, TOLD if flags is None else flags)
        thread = threading.Thread(target=self._migrate, args=(domain,), daemon=True)
        thread.start()
        job = guest.wait_for_job()
        job.step(memory_iteration=1, memory_remaining=40 << 20)
        job.enter_postcopy()
        job.break_link()
        thread.join(10)
        self.cluster.writes.clear()
        self.cluster.opened.clear()
        return job

    @staticmethod
    def _migrate(domain):
        with pytest.raises(libvirt.libvirtError):
            domain.migrateToURI3("qemu+ssh://root@h2/system", {}, FLAGS)

    def record(self, domain, flags):
        """What the run that moved it has on record, which has told its end as well."""
        directory = RunDirectory(str(self.path / "h1"), "drain-h1-1")
        directory.make({"id": "drain-h1-1", "steps": []})
        step = {"id": "s001", "guest": {"name": domain.name(), "uuid": domain.UUIDString()}}
        journal = runner.guest_runs.open_journal(str(self.path / "h1"), directory)
        instance = {"boot_id": boot_id(), "domain_id": domain.ID()}
        journal.write("migration.started", step=step, destination="h2", flags=flags, **instance)
        journal.write("step.verified", step=step, verdict="unclear")
        journal.write("step.finished", step=step, result={"outcome": "unclear"})
        journal.close()


@pytest.fixture
def world(run_module, cluster, tmp_path, monkeypatch):
    found = World(run_module, cluster, tmp_path)
    monkeypatch.setattr(recoverer, "paths", found.paths)
    monkeypatch.setattr(split_guests, "FACT", tmp_path / "facts.d" / "kvmops_split.fact")
    monkeypatch.setattr(host, "snapshot", functools.partial(host.snapshot, root=tmp_path))
    for module, name, value in (
        (migration, "POLL_S", 0.01),
        (guest_state, "POLL_S", 0.01),
        (guest_state, "SETTLED_AFTER_S", 0.05),
        (finding, "SETTLED_AFTER_S", 0.05),
        (postcopy_resume, "POLL_S", 0.01),
        (postcopy_resume, "TRY_AGAIN_S", 0.01),
        (postcopy_resume, "AGREE_S", 0.2),
        (postcopy_resume, "PATIENCE_S", 2.0),
        (runner, "JOIN_POLL_S", 0.01),
        (runner, "TAKE_AGAIN_S", 0.001),
    ):
        monkeypatch.setattr(module, name, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def calls(world):
    return [call for _host, call in world.cluster.writes]


def test_nothing_is_found_where_nothing_broke_off(world):
    world.h1.add_guest("web1")
    result = world.recover()
    assert (result["changed"], result["guests"], result["run"]["plan"]) == (False, [], None)
    assert not result.get("failed")
    assert world.cluster.writes == []
    assert not (world.path / "h1" / "runs").exists()


def test_a_postcopy_that_broke_off_is_resumed_and_whole(world):
    job = world.broken()
    world.cluster.on_resume = lambda resumed: resumed.complete()
    result = world.recover()
    assert not result.get("failed"), result
    assert result["changed"]
    [row] = result["guests"]
    assert (row["found"], row["outcome"], row["remedy"]) == ("resume", "moved", "")
    assert (row["source"], row["destination"]) == ("h1", "h2")
    assert row["reason"] == "web1 is whole, and runs on h2"
    assert row["sides"][:2] == ["paused (postcopy_failed) on h1", "running (postcopy_failed) on h2"]
    # The same flags, and those that resume; where to comes from the inventory.
    added = libvirt.VIR_MIGRATE_POSTCOPY_RESUME | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    assert job.flags == FLAGS | added
    assert job.resume_params == [{"migrate_uri": "tcp://198.18.0.12"}]
    assert world.tried[0] == ("h1", "h2", "off")
    assert world.h2.guest("web1").persistent
    assert world.h1.guests == {}
    runs = past_runs.list_runs(str(world.path / "h1"))
    assert [(one["plan"], bool(one["steps"][0]["moved_at"])) for one in runs if one["steps"]] == [
        (result["run"]["plan"], True)
    ]
    again = world.recover()
    assert (again["changed"], again["guests"]) == (False, [])


def test_an_encrypted_move_is_resumed_as_such_and_with_no_other_flags(world):
    job = world.broken("db1", flags=[*TOLD, "TLS", "POSTCOPY_RESUME", "OFFLINE", "UNSAFE"])
    world.cluster.on_resume = lambda resumed: resumed.complete()
    result = world.recover()
    assert [row["outcome"] for row in result["guests"]] == ["moved"], result
    assert world.tried[0] == ("h1", "h2", "required")
    assert job.flags & libvirt.VIR_MIGRATE_TLS
    assert not job.flags & (libvirt.VIR_MIGRATE_OFFLINE | libvirt.VIR_MIGRATE_UNSAFE)
    assert job.resume_params == [{"migrate_uri": "tcp://198.18.0.12", "tls.destination": "h2"}]


def test_a_move_that_nobody_has_on_record_is_resumed_as_a_plain_one(world):
    job = world.broken(recorded=False)
    world.cluster.on_resume = lambda resumed: resumed.complete()
    assert [row["outcome"] for row in world.recover()["guests"]] == ["moved"]
    assert job.flags == FLAGS | libvirt.VIR_MIGRATE_POSTCOPY_RESUME | libvirt.VIR_MIGRATE_ABORT_ON_ERROR


def test_check_mode_says_what_it_would_do_and_writes_nothing(world):
    world.broken()
    result = world.recover(check=True)
    assert not result.get("failed"), result
    [row] = result["guests"]
    assert (row["outcome"], result["changed"]) == ("would_resume", True)
    assert world.cluster.writes == []
    assert all(read_only for _uri, read_only in world.cluster.opened)
    assert world.tried == [("h1", "h2", "off")]


@pytest.mark.parametrize("check", [True, False])
def test_a_link_that_is_still_cut_is_named_before_anything_is_tried(world, check):
    world.broken()
    world.link_fault = "no route to host from 198.18.0.12 port 49215"
    result = world.recover(check=check)
    assert result["failed"]
    assert result["msg"] == (
        "web1 (refused): the way from h1 to h2 does not work: no route to host from 198.18.0.12 port 49215 -> check the"
        " route from h1 to h2; then run it again, and until then destroy neither half"
    )
    assert "virDomainMigrateToURI3" not in calls(world)


@pytest.mark.parametrize("check", [True, False])
def test_a_daemon_that_would_die_is_not_asked(world, check):
    world.broken()
    world.h2.libvirt_version = CRASHES
    result = world.recover(check=check)
    assert result["failed"]
    assert "libvirt 11.3 on h2 dies when a broken post-copy is resumed, and the guest would be lost" in result["msg"]
    assert "upgrade libvirt on h2 to 11.4 or later" in result["msg"]
    assert world.tried == []
    assert "virDomainMigrateToURI3" not in calls(world)


def test_qemu_that_has_not_noticed_the_cut_is_asked_again(world):
    job = world.broken()
    job.not_noticed = 2
    world.cluster.on_resume = lambda resumed: resumed.complete()
    result = world.recover()
    assert [row["outcome"] for row in result["guests"]] == ["moved"], result
    assert calls(world).count("virDomainMigrateToURI3") == 3


def test_a_link_that_breaks_again_is_resumed_again(world):
    world.broken()
    breaks = iter([True, True, False])

    def resumed(job):
        job.break_link() if next(breaks) else job.complete()

    world.cluster.on_resume = resumed
    result = world.recover()
    assert [row["outcome"] for row in result["guests"]] == ["moved"], result
    assert calls(world).count("virDomainMigrateToURI3") == 3


def test_a_false_failure_is_seen_through_on_both_sides(world):
    """Before 11.0 libvirt may report a failure while QEMU goes on."""
    world.broken()
    error = libvirt.libvirtError("operation failed: job 'migration in' failed in post-copy phase", 9)
    world.cluster.on_resume = lambda job: job.complete(error)
    result = world.recover()
    assert not result.get("failed"), result
    assert [row["outcome"] for row in result["guests"]] == ["moved"]


def test_a_resume_that_never_works_ends_with_the_reason(world):
    world.broken()
    world.cluster.on_resume = lambda job: job.break_link()
    result = world.recover()
    assert result["failed"]
    [row] = result["guests"]
    assert row["outcome"] == "unclear"
    assert row["reason"].startswith("operation failed: job 'migration in' failed in post-copy phase. post-copy was")
    assert "destroy neither side" in row["reason"]
    # Both halves are as they were.
    assert world.h1.guest("web1").active
    assert world.h2.guest("web1").active


def test_what_libvirt_will_never_take_is_not_asked_for_ever(world, monkeypatch):
    world.broken()
    asked = []

    def refused(_domain, *_arguments):
        asked.append(1)
        raise libvirt.libvirtError("argument unsupported: no such flag", libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED)

    monkeypatch.setattr(libvirt.Domain, "migrateToURI3", refused)
    result = world.recover()
    assert "argument unsupported: no such flag" in result["msg"]
    assert len(asked) == postcopy_resume.MOST_REFUSALS


def test_a_half_whose_other_half_is_gone_is_lost_and_nothing_is_removed(world):
    world.broken()
    world.h2.guests.clear()
    result = world.recover()
    assert result["failed"]
    [row] = result["guests"]
    assert (row["outcome"], row["destination"]) == ("lost", "h2")
    assert result["msg"].startswith("web1 (LOST): the memory of web1 is lost: post-copy was interrupted")
    assert "End what is left on h1 (virsh destroy web1 there)" in row["remedy"]
    assert world.cluster.writes == []
    assert world.h1.guest("web1").active


def test_the_destination_leaves_the_work_to_the_source(world):
    world.broken()
    result = world.recover(on="h2")
    assert not result.get("failed"), result
    assert [(row["outcome"], row["source"]) for row in result["guests"]] == [("left_to", "h1")]
    assert not result["changed"]
    assert world.cluster.writes == []


def test_a_host_that_does_not_answer_keeps_a_guest_untouched(world):
    world.broken()
    world.h2.connect_error = libvirt.libvirtError("Cannot recv data: ssh: connect to host h2: No route to host", 38)
    result = world.recover()
    [row] = result["guests"]
    assert row["outcome"] == "unclear"
    assert "bring h2 back, then run it again" in row["remedy"]
    assert world.cluster.writes == []


def test_a_guest_left_paused_goes_on_where_no_other_host_has_it(world):
    guest = world.h1.add_guest("web1", state=(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION))
    directory = RunDirectory(str(world.path / "h1"), "drain-h1-2")
    directory.make({"id": "drain-h1-2", "steps": []})
    world.cluster.local = world.h1
    domain = libvirt.open("qemu:///system").lookupByName("web1")
    journal = runner.guest_runs.open_journal(str(world.path / "h1"), directory)
    step = {"id": "s001", "guest": {"name": "web1", "uuid": guest.uuid}}
    instance = {"boot_id": boot_id(), "domain_id": domain.ID()}
    journal.write("migration.started", step=step, destination="h2", flags=TOLD, **instance)
    journal.close()
    world.cluster.writes.clear()
    checked = world.recover(check=True)
    assert [row["outcome"] for row in checked["guests"]] == ["would_go_on"], checked
    assert world.cluster.writes == []
    result = world.recover()
    assert not result.get("failed"), result
    [row] = result["guests"]
    assert (row["outcome"], row["reason"]) == ("goes_on", "web1 runs on h1; it never ran on h2")
    assert guest.state[0] == libvirt.VIR_DOMAIN_RUNNING
    assert calls(world) == ["virDomainResume"]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_guest_left_paused_stays_so_without_evidence(world, elsewhere):
    guest = world.h1.add_guest("web1", state=(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION))
    if elsewhere:
        world.h3.add_guest("web1", uuid=guest.uuid)
    result = world.recover()
    assert result["failed"]
    assert [row["outcome"] for row in result["guests"]] == ["unclear"]
    assert guest.state[0] == libvirt.VIR_DOMAIN_PAUSED
    assert world.cluster.writes == []


def test_a_definition_that_stayed_is_removed_where_its_guest_runs(world):
    guest = world.h1.add_guest("web1", state=(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED))
    world.h2.add_guest("web1", uuid=guest.uuid, persistent=False)
    checked = world.recover(check=True)
    assert [row["outcome"] for row in checked["guests"]] == ["would_close"]
    assert world.cluster.writes == []
    result = world.recover()
    assert not result.get("failed"), result
    [row] = result["guests"]
    assert row["outcome"] == "closed"
    assert row["reason"].startswith("web1 runs on h2, and nothing of it is left on h1 (defined it on h2; removed its")
    assert world.h1.guests == {}
    assert world.h2.guest("web1").persistent


def test_memory_that_was_taken_is_given_back(world):
    guest = world.h1.add_guest("web1")
    size = guest.balloon.size_kib
    record = {"schema": taken_memory.SCHEMA, "name": "web1", "uuid": guest.uuid, "before_kib": size, "target_kib": 1024}
    with taken_memory.locked(str(world.path / "h1"), guest.uuid):
        taken_memory.store(str(world.path / "h1"), record)
    checked = world.recover(check=True)
    assert len(checked["changed_back"]) == 1
    assert checked["changed"]
    assert "of which a run has taken some" in checked["changed_back"][0]
    assert world.cluster.writes == []
    result = world.recover()
    assert len(result["changed_back"]) == 1
    assert "web1 has all its " in result["changed_back"][0]
    assert taken_memory.read(str(world.path / "h1"), guest.uuid) is None


def test_a_host_where_another_run_is_at_work_is_left_to_it(world):
    world.broken()
    lock = take_run_lock(str(world.path / "h1"), "drain-h1-9", "bob@admin2")
    try:
        result = world.recover()
    finally:
        lock.release()
    assert result["failed"]
    assert result["refusal"]["code"] == "busy"
    assert "plan drain-h1-9 of bob@admin2" in result["msg"]
    assert "virDomainMigrateToURI3" not in calls(world)


def test_only_the_guests_that_are_named_are_looked_at(world):
    world.broken()
    assert world.recover(guests=["db1"])["guests"] == []
    assert [row["guest"]["name"] for row in world.recover(check=True, guests=["web1"])["guests"]] == ["web1"]


def test_an_address_that_starts_a_program_is_refused(world):
    evil = {**CONNECT, "h2": {"connect_uri": "qemu+ext:///system?command=/tmp/x"}}
    result = world.recover(connect=evil)
    assert result["refusal"]["code"] == "connect_uri"
    assert world.cluster.opened == []


def test_the_journal_says_what_was_resumed(world):
    world.broken()
    world.cluster.on_resume = lambda resumed: resumed.complete()
    run = world.recover()["run"]["plan"]
    lines = journals.read(RunDirectory(str(world.path / "h1"), run).journal)
    started = next(line for line in lines if line["event"] == "migration.started")
    assert started["data"]["flags"][-2:] == ["POSTCOPY", "POSTCOPY_RESUME"]
    assert started["data"]["destination"] == "h2"
    assert [line["data"]["verdict"] for line in lines if line["event"] == "step.verified"] == ["moved"]


def test_both_hosts_are_marked_while_a_guest_is_split_between_them(world):
    world.broken()
    for here, there in (("h1", "h2"), ("h2", "h1")):
        result = world.recover(on=here, finish=False)
        assert not result.get("failed"), result
        [mark] = split_guests.marked(str(world.path / here))
        assert (mark["name"], mark["other"]) == ("web1", there)
    assert world.cluster.writes == []
    world.cluster.on_resume = lambda resumed: resumed.complete()
    assert not world.recover().get("failed")
    assert split_guests.marked(str(world.path / "h1")) == []
    assert not world.recover(on="h2").get("failed")
    assert split_guests.marked(str(world.path / "h2")) == []
