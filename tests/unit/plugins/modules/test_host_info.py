# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import time
import types

import pytest
from ansible.module_utils.common import respawn

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection, local_connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import cpu_use, host
from ansible_collections.kvmops.cluster.plugins.modules import host_info
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit import hostile
from ansible_collections.kvmops.cluster.tests.unit.call_count import calls_of


@pytest.fixture
def snapshot(run_module, cluster, tmp_path):
    def take(**arguments):
        result = run_module(host_info, name="h1", state_dir=str(tmp_path), **arguments)
        assert not result.get("failed"), result
        assert result["changed"] is False
        return result["snapshot"]

    return take


def test_a_host_and_its_guests(snapshot, cluster):
    h1 = cluster.add_host("h1")
    h1.add_guest("web1", disk="/nowhere/web1.qcow2", block=[{"name": "vda", "capacity": 10, "allocation": 5}])
    h1.add_guest("off", state=(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN), autostart=True)
    taken = snapshot()
    assert taken["schema"] == "kvmops.snapshot/1"
    assert (taken["host"], taken["hostname"], taken["host_uuid"]) == ("h1", "h1.example.org", h1.uuid)
    assert taken["versions"]["libvirt"] == "11.3.0"
    assert taken["capacity"]["cells"] == [
        {
            "id": 0,
            "cpus": 4,
            "memory_bytes": 8 << 30,
            "free_bytes": 6 << 30,
            "pages": [{"size_bytes": 4096, "free": 6 << 18}, {"size_bytes": 2 << 20, "free": 0}],
        }
    ]
    assert taken["cpu"] == {
        "arch": "x86_64",
        "model": "Skylake-Server",
        "vendor": "Intel",
        "features": ["avx2", "avx512f"],
    }
    assert [(e["type"], e["machines"]) for e in taken["emulators"]] == [
        ("kvm", ["pc-q35-7.2", "pc-i440fx-7.2", "q35"]),
        ("qemu", ["pc-q35-7.2", "pc-i440fx-7.2", "q35"]),
    ]
    assert taken["maintenance"]["state"] == "active"
    off, web = taken["domains"]
    assert (off["name"], off["state"], off["state_reason"], off["autostart"], off["balloon"]) == (
        "off",
        "shutoff",
        "shutdown",
        True,
        None,
    )
    assert (web["state"], web["state_reason"], web["persistent"], web["job"]) == ("running", "booted", True, None)
    assert web["memory_bytes"] == 512 << 20
    assert web["balloon"]["unused_bytes"] == 400000 * 1024
    assert web["balloon"]["age_s"] in (0, 1, 2)
    assert (web["disks"][0]["capacity_bytes"], web["disks"][0]["allocation_bytes"]) == (10, 5)
    assert web["blockers"] == []


@pytest.fixture
def own_files(monkeypatch, tmp_path):
    """The host's files are those below this folder, by path."""

    def write(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        monkeypatch.setattr(host, "snapshot", functools.partial(host.snapshot, root=tmp_path))

    return write


GUEST = """<domain type='kvm'><name>db1</name><uuid>{uuid}</uuid><memory unit='GiB'>3</memory><vcpu>2</vcpu>
<memtune><hard_limit unit='GiB'>4</hard_limit></memtune>
<memoryBacking><hugepages><page size='2' unit='MiB' nodeset='0'/></hugepages></memoryBacking>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<cpu><numa><cell id='0' memory='1' unit='GiB'/><cell id='1' memory='2' unit='GiB'/></numa></cpu>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/shared/db1.qcow2'>
<dataStore type='file'><format type='raw'/><source file='/srv/db1.raw'/></dataStore></source><target dev='vda'/></disk>
<disk type='file' device='cdrom'><source file='/srv/a.iso' startupPolicy='optional'/><target dev='sda'/><readonly/>
</disk>
<disk type='file' device='disk'><source file='/mfs/db1.raw'/><target dev='vdb'/></disk>
<filesystem type='mount'><source dir='/srv/x'/><target dir='x'/></filesystem>
</devices></domain>"""


def test_what_a_definition_says_of_disks_memory_limits_and_owner(snapshot, cluster, own_files):
    own_files(
        {
            "proc/self/mountinfo": (
                "1 0 0:1 / / rw - ext4 /dev/vda1 rw\n2 1 0:2 / /shared rw - nfs4 nas:/g rw\n"
                "3 1 0:3 / /mfs rw - fuse.moosefs m:9421 rw\n"
            ),
            "run/libvirt/qemu/db1.pid": "77",
            "proc/77/cgroup": "0::/machine.slice/db1.scope/libvirt/emulator\n",
            "sys/fs/cgroup/machine.slice/db1.scope/cpu.max": "150000 100000\n",
            "var/lib/pacemaker/cib/cib.xml": (
                '<cib><primitive type="VirtualDomain"><instance_attributes><nvpair name="config" value="/etc/db1.xml"/>'
                "</instance_attributes></primitive></cib>"
            ),
        }
    )
    uuid = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
    cluster.add_host("h1").add_guest("db1", uuid=uuid, xml=GUEST.format(uuid=uuid))
    taken = snapshot()
    (guest,) = taken["domains"]
    vda, sda, vdb = guest["disks"]
    assert (vda["shared"], vda["shared_why"], vda["uncopyable"]["code"]) == (False, "ext4", "unshared_layer")
    assert (sda["shared"], sda["startup_policy"]) == (False, "optional")
    assert (vdb["shared"], vdb["uncopyable"]["code"]) == (False, "undeclared_share")
    assert [mount.get("undeclared") for mount in taken["mounts"]] == [None, True, None]
    assert guest["blockers"] == []
    assert [remark["code"] for remark in guest["remarks"]] == ["mounted_9p", "dropped_medium"]
    assert guest["memory_parts"] == [
        {"bytes": 1 << 30, "page_bytes": 2 << 20, "host_cells": None},
        {"bytes": 2 << 30, "page_bytes": None, "host_cells": None},
    ]
    assert guest["limits"] == {"memory_bytes": 4 << 30, "cpus": 1.5, "emulator_cpus": None, "vcpu_cpus": None}
    assert guest["managed_by"] == "pacemaker"


def test_a_cpu_for_which_libvirt_has_no_name(snapshot, cluster, own_files):
    h1 = cluster.add_host("h1")
    own_files({"proc/cpuinfo": "processor: 0\nCPU part: 0xd0c\n"})
    assert "identity" not in snapshot()["cpu"]
    h1.capabilities = h1.capabilities.replace("<model>Skylake-Server</model>", "")
    assert snapshot()["cpu"]["identity"] == ["CPU part: 0xd0c"]


def test_whose_address_a_share_is_mounted_from(snapshot, cluster, own_files):
    cluster.add_host("h1")
    own_files(
        {
            "proc/self/mountinfo": "1 0 0:1 / /g rw - nfs4 10.0.9.1:/g rw,addr=10.0.9.1\n",
            "proc/net/arp": "IP address\n10.0.9.1 0x1 0x2 52:54:00:00:00:0a * eth1\n",
        }
    )
    (mount,) = snapshot()["mounts"]
    assert (mount["address"], mount["mac"]) == ("10.0.9.1", "52:54:00:00:00:0a")


def test_a_guest_without_any_of_these(snapshot, cluster, own_files):
    own_files({})
    cluster.add_host("h1").add_guest("web1")
    (guest,) = snapshot()["domains"]
    assert (guest["remarks"], guest["limits"], guest["managed_by"]) == ([], None, None)
    assert guest["memory_parts"] == [{"bytes": 512 << 20, "page_bytes": None, "host_cells": None}]


def test_guests_are_watched_where_that_is_asked_for(snapshot, cluster, monkeypatch):
    # A clock that only a sleep moves: what is measured does not depend on how busy this machine is.
    now = [100.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(cpu_use, "time", clock)
    monkeypatch.setattr(libvirt, "clock", clock.monotonic)
    h1 = cluster.add_host("h1")
    h1.add_guest("busy").cpus_used = 1.5
    h1.add_guest("idle")
    off = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    h1.add_guest("off", state=off)
    assert [guest["cpus_used"] for guest in snapshot()["domains"]] == [None, None, None]
    used = {guest["name"]: guest["cpus_used"] for guest in snapshot(cpu_sample_s=0.1)["domains"]}
    assert used == {"busy": 1.5, "idle": 0, "off": None}


@pytest.mark.parametrize(
    ("line", "manager"),
    [
        ('lock_manager = "lockd"', "lockd"),
        ('lock_manager = "sanlock"', "sanlock"),
        ('lock_manager = "nop"', None),
        ('#lock_manager = "lockd"', None),
        ("lock_manager = 1", None),
        ("", None),
    ],
)
def test_the_host_tells_what_locks_disks(snapshot, cluster, own_files, line, manager):
    cluster.add_host("h1")
    own_files({"etc/libvirt/qemu.conf": f"{line}\n"})
    assert snapshot()["migration"]["lock_manager"] == manager


def test_the_host_tells_its_pressure(snapshot, cluster, monkeypatch, tmp_path):
    cluster.add_host("h1")
    monkeypatch.setattr(host, "snapshot", functools.partial(host.snapshot, root=tmp_path))
    assert snapshot()["pressure"] == {"cpu": None, "memory": None, "io": None}
    for place, percent in (
        ("proc/pressure/cpu", "33.07"),
        ("proc/pressure/io", "0.5"),
        ("sys/fs/cgroup/cpu.pressure", "4"),
    ):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"some avg10=1.00 avg60={percent} avg300=2.00 total=5\nfull avg10=9 avg60=9 avg300=9 total=9\n")
    assert snapshot()["pressure"] == {"cpu": 0.04, "memory": None, "io": 0.005}


def test_only_read_only_connections_are_made(snapshot, cluster):
    cluster.add_host("h1").add_guest("web1")
    snapshot()
    assert set(cluster.opened) == {("qemu:///system", True)}
    assert cluster.writes == []


def test_a_guest_that_vanishes_meanwhile_is_left_out(snapshot, cluster):
    h1 = cluster.add_host("h1")
    h1.add_guest("here")
    h1.add_guest("gone", vanished=True)
    assert [guest["name"] for guest in snapshot()["domains"]] == ["here"]


def test_a_guest_whose_qemu_hangs_is_described_without_it(snapshot, cluster):
    h1 = cluster.add_host("h1")
    h1.add_guest("fine")
    h1.add_guest("hung", stuck=True)
    fine, hung = snapshot()["domains"]
    assert fine["blockers"] == []
    assert [(b["code"], b["reason"]) for b in hung["blockers"]] == [
        ("not_answering", "QEMU of hung does not answer libvirt within 2 s")
    ]
    assert hung["memory_bytes"] == 512 << 20


def test_a_migration_under_way_is_seen_on_both_sides(snapshot, cluster):
    h1, h2 = cluster.add_host("h1"), cluster.add_host("h2")
    guest = h1.add_guest("web1")
    libvirt.Job(guest, h2, {}, 0)
    guest.job = h2.guest("web1").job
    guest.job.step(time_elapsed=4200)
    assert snapshot()["domains"][0]["job"] == {"operation": "migration_out", "elapsed_s": 4.2}
    assert snapshot(uri="qemu:///system")["domains"][0]["state"] == "running"
    cluster.local = h2
    assert snapshot()["domains"][0]["job"] == {"operation": "migration_in", "elapsed_s": None}


@pytest.mark.parametrize(
    "name", ["with space", "dots.and.dots", "größe-日本", "quotes \"and' <tags>&", "x" * 200, "-dash", "a/b"]
)
def test_odd_names(snapshot, cluster, name):
    cluster.add_host("h1").add_guest(name, snapshots=2)
    (guest,) = snapshot()["domains"]
    assert guest["name"] == name
    assert [b["code"] for b in guest["blockers"]] == ["snapshots"]


def test_ten_times_the_guests_take_not_much_more_than_ten_times_the_work(snapshot, cluster):
    h1 = cluster.add_host("h1")
    calls = []
    for number in range(200):
        h1.add_guest(f"g{number:03d}", disk=f"/var/lib/libvirt/images/g{number}.qcow2")
        if number in (19, 199):
            calls.append(calls_of(snapshot))
            assert len(snapshot()["domains"]) == number + 1
    few, many = calls
    assert few < many < 12 * few


def test_a_host_lists_what_really_is_in_its_pools(snapshot, cluster, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    h1 = cluster.add_host("h1")
    h1.add_file(f"{images}/removed.qcow2")
    h1.add_pool("images", str(images))
    h1.add_file("/elsewhere/of-libvirt.qcow2")
    h1.add_pool("elsewhere", "/elsewhere")
    # libvirt knows neither: a shell removed one and made the other.
    (images / "made.qcow2").touch()
    assert {pool["name"]: pool["volumes"] for pool in snapshot()["storage_pools"]} == {
        "images": ["made.qcow2"],
        "elsewhere": ["of-libvirt.qcow2"],
    }


def test_a_damaged_record_counts_as_cordoned(snapshot, cluster, tmp_path):
    cluster.add_host("h1")
    (tmp_path / "maintenance.json").write_text('{"schema": "kvmops.main')
    record = snapshot()["maintenance"]
    assert record["state"] == "cordoned"
    assert "cannot be read: it is not JSON" in record["reason"]


def test_the_record_of_a_closed_host(snapshot, cluster, tmp_path):
    cluster.add_host("h1")
    record = {
        "schema": "kvmops.maintenance/1",
        "state": "cordoned",
        "owner": "alice@admin1",
        "reason": "DIMM",
        "since": "2026-11-24T02:00:00Z",
    }
    (tmp_path / "maintenance.json").write_text(json.dumps(record))
    assert snapshot()["maintenance"] == record


def test_no_binding(run_module, monkeypatch):
    monkeypatch.setattr(connection, "libvirt", None)
    monkeypatch.setattr(respawn, "probe_interpreters_for_module", lambda paths, name: None)
    result = run_module(host_info)
    assert result["failed"]
    assert "libvirt" in result["msg"]
    assert "python3-libvirt" in result["msg"]


def test_no_daemon(run_module, cluster):
    cluster.add_host("h1").stop_daemon()
    result = run_module(host_info)
    assert result["refusal"]["code"] == "no_daemon"
    assert result["msg"] == (
        "no connection to qemu:///system: Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection "
        "refused: start libvirt there: systemctl start libvirtd.socket (or virtqemud.socket), and see journalctl -u "
        "libvirtd"
    )


def test_a_daemon_that_hangs(run_module, cluster, monkeypatch):
    cluster.add_host("h1")
    monkeypatch.setattr(local_connection, "ANSWER_S", 0.2)
    monkeypatch.setattr(libvirt, "openReadOnly", lambda uri: time.sleep(60))
    result = run_module(host_info)
    assert result["msg"] == (
        "qemu:///system does not answer within 0.2 s: see journalctl -u libvirtd -u virtqemud, and restart the daemon; "
        "guests keep running without it"
    )


def test_not_permitted(run_module, cluster):
    cluster.add_host("h1").connect_error = libvirt.libvirtError(
        "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.monitor'", 66
    )
    result = run_module(host_info)
    assert result["refusal"]["code"] == "not_permitted"
    assert "become: true" in result["msg"]


def test_another_host_than_this_one(run_module, cluster):
    cluster.add_host("h1")
    result = run_module(host_info, uri="qemu+ssh://root@h1/system")
    assert result["msg"] == (
        "qemu+ssh://root@h1/system leads to another host than the one the module runs on: run the module on that host "
        "itself (delegate_to), with a URI such as qemu:///system"
    )
    assert cluster.opened == []


def test_shared_devices_that_may_be_others_on_another_host(run_module, cluster):
    cluster.add_host("h1")
    result = run_module(host_info, shared_devices=["/dev/loop1????"])
    assert result["refusal"]["code"] == "bad_option"
    assert result["msg"] == (
        "shared_devices has '/dev/loop1????', which can match /dev/loop...; the kernel gives such names in the order "
        "in which it finds devices, so on another host such a name may be another disk, and a guest would overwrite "
        "that one: list names that are the same on all hosts (/dev/disk/by-id/..., /dev/mapper/..., /dev/VG/LV) in "
        "kvmops_cluster_shared_devices, and use them in the guest's definition; see which there are: ls -l "
        "/dev/disk/by-id"
    )
    assert cluster.opened == []


@pytest.mark.parametrize("kind", list(hostile.NO_DEFINITIONS))
def test_a_guest_that_cannot_be_read_stays_and_hides_no_other(snapshot, cluster, monkeypatch, kind):
    def described(domain, flags=0):
        return hostile.NO_DEFINITIONS[kind] if domain.name() == "odd" else domain.guest().xml

    monkeypatch.setattr(libvirt.Domain, "XMLDesc", described)
    h1 = cluster.add_host("h1")
    h1.add_guest("odd")
    h1.add_guest("web1")
    odd, web = snapshot()["domains"]
    assert (odd["name"], odd["state"], web["name"], web["blockers"]) == ("odd", "running", "web1", [])
    (blocker,) = odd["blockers"]
    assert blocker["code"] == "definition_unreadable"
    assert blocker["reason"].startswith("its definition cannot be read: it")
    assert blocker["remedy"] == "look at it (virsh dumpxml odd), and correct it (virsh edit odd)"
    assert odd["memory_bytes"] > 0


def test_what_nobody_has_thought_of_keeps_one_guest_and_hides_no_other(snapshot, cluster, monkeypatch):
    def describe(root, **arguments):
        if root.findtext("name") == "odd":
            raise KeyError("a new kind of device")
        return known(root, **arguments)

    known = guest_xml.describe
    monkeypatch.setattr(guest_xml, "describe", describe)
    h1 = cluster.add_host("h1")
    h1.add_guest("odd")
    h1.add_guest("web1")
    odd, web = snapshot()["domains"]
    assert odd["blockers"][0]["reason"] == "its definition cannot be read: KeyError: 'a new kind of device'"
    assert web["blockers"] == []


def test_a_definition_may_be_large_and_have_comments_and_instructions(snapshot, cluster):
    h1 = cluster.add_host("h1")
    guest = h1.add_guest("web1", disk="/nowhere/web1.qcow2")
    disk = "<disk type='file'><source file='/nowhere/{0}'/><target dev='v{0}'/></disk>"
    many = "".join(disk.format(number) for number in range(10_000))
    guest.xml = guest.xml.replace(
        "</devices>", f"<!-- <!DOCTYPE x> --><?odd {'x' * 1000}?><![CDATA[ ]]>{many}</devices>"
    )
    began = time.monotonic()
    (web,) = snapshot()["domains"]
    assert len(web["disks"]) == 10_001
    assert "definition_unreadable" not in {blocker["code"] for blocker in web["blockers"]}
    assert time.monotonic() - began < 20
