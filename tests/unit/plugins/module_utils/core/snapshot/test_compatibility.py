# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.compatibility import refusals
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    MIB,
    disk,
    domain,
    record,
    snapshot,
    uuid_of,
)

UNUSABLE_TLS = {"tls": {"usable": False, "reason": "there is no /etc/pki/qemu/server-cert.pem", "remedy": "install it"}}

RECOVER = "ansible-playbook kvmops.cluster.recover"
FINISH = (
    f"finish that move before anything else: {RECOVER} (--check says what it would do); destroy neither side: each"
    " holds a part of its memory"
)


def judged(guest=None, source=None, destination=None, intent=None, **options):
    guest = guest or domain()
    return refusals(
        guest,
        source or snapshot("h1", guest),
        destination or snapshot("h2"),
        intents.normalise(intent),
        **options,
    )


def told(found):
    return [(r["code"], r["reason"], r["remedy"]) for r in found]


def without(document, *keys, **values):
    """A deep copy with the value at keys changed in some of its own."""
    document = copy.deepcopy(document)
    inner = document
    for key in keys:
        inner = inner[key]
    inner.update(values)
    return document


def test_a_sound_guest_between_sound_hosts():
    assert judged() == []


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_any_name_will_do(name):
    assert judged(domain(name)) == []
    (refused,) = judged(domain(name, state="paused", state_reason="user"))
    assert refused["reason"] == f"{name} is paused (user)"
    assert refused["remedy"].startswith("resume it (virsh resume ")


def test_names_in_remedies_are_safe_to_paste():
    (refused,) = judged(domain("a b; reboot", state="paused", state_reason="user"))
    assert refused["remedy"] == "resume it (virsh resume 'a b; reboot')"


@pytest.mark.parametrize(
    ("state", "reason", "code", "text", "remedy"),
    [
        (
            "shutoff",
            "shutdown",
            "shut_off",
            "web1 is shut off (shutdown)",
            "start it first (virsh start web1), or leave it where it is",
        ),
        (
            "shut off",
            None,
            "shut_off",
            "web1 is shut off",
            "start it first (virsh start web1), or leave it where it is",
        ),
        ("paused", "user", "paused", "web1 is paused (user)", "resume it (virsh resume web1)"),
        ("paused", "unknown", "paused", "web1 is paused", "resume it (virsh resume web1)"),
        (
            "paused",
            "ioerror",
            "io_error",
            "web1 is paused because its storage failed",
            "repair the storage (virsh domblkerror web1), then resume it (virsh resume web1)",
        ),
        (
            "paused",
            "migration",
            "already_migrating",
            "web1 is paused by a migration that is under way",
            f"wait for that migration (virsh domjobinfo web1); if none is under way, its run has died: {RECOVER}",
        ),
        (
            "paused",
            "postcopy_failed",
            "postcopy_broken",
            "web1 is paused in the middle of a post-copy",
            FINISH,
        ),
        (
            "running",
            "postcopy_failed",
            "postcopy_broken",
            "web1 is in the middle of a post-copy that broke",
            FINISH,
        ),
        (
            "running",
            "postcopy",
            "already_migrating",
            "web1 is still fetching its memory (post-copy)",
            "wait for that migration (virsh domjobinfo web1)",
        ),
        (
            "crashed",
            "panicked",
            "crashed",
            "web1 has crashed (panicked)",
            "read /var/log/libvirt/qemu on its host, then restart it (virsh destroy web1, virsh start web1)",
        ),
        (
            "shutting_down",
            "user",
            "shutting_down",
            "web1 is shutting down (user)",
            "wait until it is off, or start it again and retry",
        ),
        (
            "pmsuspended",
            None,
            "suspended",
            "web1 is asleep (suspended by itself)",
            "wake it up (virsh dompmwakeup web1)",
        ),
        (
            None,
            None,
            "state_unknown",
            "web1 is in a state that its host does not know",
            "look at it with virsh domstate web1",
        ),
    ],
)
def test_states(state, reason, code, text, remedy):
    assert told(judged(domain(state=state, state_reason=reason))) == [(code, text, remedy)]


@pytest.mark.parametrize(
    ("job", "code", "text"),
    [
        ({"operation": "migration_out"}, "already_migrating", "web1 is already migrating"),
        ({"type": "unbounded"}, "busy", "web1 is busy with another job (unbounded)"),
        ("backup", "busy", "web1 is busy with another job (backup)"),
    ],
)
def test_jobs(job, code, text):
    (refused,) = judged(domain(job=job))
    assert (refused["code"], refused["reason"]) == (code, text)


def test_its_own_blockers_are_passed_on():
    blocker = {"code": "hostdev", "reason": "PCI device 0000:3b:00.0 is passed through", "remedy": "detach it"}
    assert judged(domain(blockers=[blocker])) == [blocker]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"maintenance": record("cordoned", owner="alice@a1", reason="DIMM swap", since="2026-11-24T02:00:00Z")},
            (
                "cordoned",
                "h2 is cordoned since 2026-11-24T02:00:00Z (alice@a1, DIMM swap)",
                "open h2 again (host_maintenance with state: active), or choose another host",
            ),
        ),
        (
            {"maintenance": record("maintenance")},
            (
                "maintenance",
                "h2 is in maintenance",
                "open h2 again (host_maintenance with state: active), or choose another host",
            ),
        ),
        (
            {"host_uuid": uuid_of("host h1")},
            (
                "same_host",
                f"h1 and h2 say they are the same host (UUID {uuid_of('host h1')})",
                (
                    "if they are two machines, give each libvirtd its own host_uuid in /etc/libvirt/libvirtd.conf "
                    "(virtqemud.conf) and restart it"
                ),
            ),
        ),
        (
            {"versions": {"libvirt": "8.7.0", "qemu": "10.0.13"}},
            (
                "libvirt_too_old",
                "h2 runs libvirt 8.7; releases before 9.0 lose migrations or disks",
                "upgrade libvirt on h2 to 9.0 or later",
            ),
        ),
        (
            {"emulators": []},
            (
                "emulator",
                "h2 offers no KVM for x86_64",
                "load the KVM module on h2 and check that virtualisation is on in its firmware (virt-host-validate)",
            ),
        ),
        (
            {"domains": [domain("web1", uuid=uuid_of("other"))]},
            (
                "name_clash",
                f"h2 already has another guest called web1 (UUID {uuid_of('other')})",
                "rename one of the two (virsh domrename, while it is off), or choose another host than h2",
            ),
        ),
        (
            {"domains": [domain("old", uuid=uuid_of("web1"), state="shutoff")]},
            (
                "uuid_clash",
                f"h2 has defined the UUID of web1 ({uuid_of('web1')}) under another name, old",
                "remove that definition on h2 (virsh undefine old) if it is a left-over",
            ),
        ),
        (
            {"domains": [domain("web1", state="paused")]},
            (
                "running_twice",
                f"a guest with the UUID of web1 ({uuid_of('web1')}) is active on h2 as well",
                "stop nothing yet: look at both guests and find out which one holds the live state",
            ),
        ),
        (
            {"mounts": []},
            (
                "storage_unreachable",
                "disk vda (/shared/vda.qcow2) is on nas:/guests, which h2 has not mounted at /shared",
                "mount nas:/guests at /shared on h2",
            ),
        ),
        (
            {"mounts": [{"path": "/shared", "type": "nfs4", "source": "old:/guests", "shared": True}]},
            (
                "storage_unreachable",
                (
                    "disk vda (/shared/vda.qcow2) is on nas:/guests, and h2 has mounted old:/guests at /shared: "
                    "nothing proves that nas and old are one server"
                ),
                (
                    "mount it by the same name on both hosts; or, if they are one server, say so in the inventory: "
                    'kvmops_cluster_same_servers: [["nas", "old"]]'
                ),
            ),
        ),
        (
            {"mounts": [{"path": "/shared", "type": "nfs4", "source": "nas:/old", "shared": True}]},
            (
                "storage_unreachable",
                (
                    "disk vda (/shared/vda.qcow2) is on nas:/guests, which h2 has not mounted at /shared "
                    "(nas:/old is mounted there)"
                ),
                "mount nas:/guests at /shared on h2",
            ),
        ),
    ],
)
def test_what_a_destination_has_against_a_guest(changes, expected):
    assert told(judged(destination=snapshot("h2", **changes))) == [expected]


def test_an_inactive_definition_of_the_same_guest_is_no_clash():
    assert judged(destination=snapshot("h2", domain("web1", state="shutoff"))) == []


def test_the_same_inventory_name_is_the_same_host():
    (refused,) = judged(destination=snapshot("h1"))
    assert refused["reason"] == "source and destination are the same host (h1)"


def test_machine_type_of_a_newer_qemu():
    guest = domain(machine="pc-q35-10.0")
    old = without(snapshot("h2"), "emulators", 0, machines=["pc-q35-7.2"])
    old["versions"]["qemu"] = "7.2.22"
    assert told(judged(guest, destination=old)) == [
        (
            "machine_type",
            "h2 (QEMU 7.2.22) does not know the machine type pc-q35-10.0 of web1, which runs on QEMU 10.0.13",
            "upgrade QEMU on h2, or choose a host with QEMU 10.0.13 or later",
        )
    ]


def test_machine_type_that_a_newer_qemu_has_dropped():
    guest = domain(machine="pc-i440fx-2.1")
    (refused,) = judged(guest)
    assert refused["remedy"] == (
        "choose a host whose QEMU still has pc-i440fx-2.1, or restart the guest with a newer type"
    )


def test_an_older_qemu_takes_an_old_machine_type():
    old = without(snapshot("h2"), "versions", qemu="7.2.22")
    assert judged(domain(machine="pc-q35-7.2"), destination=old) == []


def test_an_older_qemu_that_does_not_tell_its_machines_is_refused():
    old = without(without(snapshot("h2"), "versions", qemu="7.2.22"), "emulators", 0, machines=[])
    assert [r["code"] for r in judged(destination=old)] == ["machine_type"]
    assert judged(destination=without(snapshot("h2"), "emulators", 0, machines=[])) == []


def test_cpu_model_the_destination_cannot_be():
    guest = domain(cpu={"mode": "custom", "model": "Icelake-Server", "xml": "<cpu/>"})
    assert told(judged(guest)) == [
        (
            "cpu_model",
            "the CPU of h2 cannot act as Icelake-Server, the model that web1 has",
            (
                "choose a host with a CPU of that kind, or restart web1 with a CPU model that all hosts can be "
                "(virsh hypervisor-cpu-baseline)"
            ),
        )
    ]


@pytest.mark.parametrize("mode", ["host-passthrough", "maximum"])
def test_the_very_cpu_of_the_host(mode):
    guest = domain(cpu={"mode": mode, "model": None, "xml": "<cpu/>"})
    assert judged(guest) == []
    other = without(snapshot("h2"), "cpu", model="EPYC", vendor="AMD")
    assert [r["reason"] for r in judged(guest, destination=other)] == [
        f"web1 has exactly the CPU of h1 ({mode}, Skylake-Server), but h2 has another (EPYC)"
    ]
    lesser = without(snapshot("h2"), "cpu", features=["aes"])
    assert [r["reason"] for r in judged(guest, destination=lesser)] == [
        f"web1 has exactly the CPU of h1 ({mode}), but h2 lacks avx512f"
    ]
    unknown = without(snapshot("h1", guest), "cpu", model=None)
    nameless = without(snapshot("h2"), "cpu", model=None)
    assert [r["code"] for r in judged(guest, source=unknown, destination=nameless)] == ["cpu_host_differs"]


NEOVERSE, ALTRA = ["CPU implementer: 0x41", "CPU part: 0xd0c"], ["CPU implementer: 0x41", "CPU part: 0xd4f"]


@pytest.mark.parametrize(
    ("arch", "here", "there", "codes"),
    [
        ("aarch64", NEOVERSE, NEOVERSE, []),
        ("aarch64", NEOVERSE, ALTRA, ["cpu_host_differs"]),
        # Just before the move, only the destination's libvirtd is asked. KVM compares the two CPUs on arrival.
        ("aarch64", NEOVERSE, None, []),
        ("s390x", NEOVERSE, NEOVERSE, []),
        ("s390x", None, None, ["cpu_host_differs"]),
    ],
)
def test_the_very_cpu_of_a_host_for_which_libvirt_has_no_name(arch, here, there, codes):
    nameless = {"arch": arch, "model": None, "vendor": None, "features": None}
    emulators = [{**snapshot()["emulators"][0], "arch": arch}]
    guest = domain(arch=arch, cpu={"mode": "host-passthrough", "model": None, "xml": "<cpu/>"})
    source = snapshot("h1", guest, cpu={**nameless, "identity": here}, emulators=emulators)
    destination = snapshot("h2", cpu={**nameless, "identity": there}, emulators=emulators)
    found = judged(guest, source=source, destination=destination)
    assert [r["code"] for r in found] == codes
    if there == ALTRA:
        assert found[0]["reason"] == (
            "web1 has exactly the CPU of h1 (host-passthrough, CPU implementer: 0x41, CPU part: 0xd0c), but h2 has "
            "another (CPU implementer: 0x41, CPU part: 0xd4f)"
        )


def test_under_tcg_the_hosts_cpu_does_not_matter():
    guest = domain(type="qemu", cpu={"mode": "maximum", "model": None, "xml": "<cpu/>"})
    other = without(without(snapshot("h2"), "cpu", model="EPYC"), "emulators", 0, type="qemu")
    assert judged(guest, destination=other) == []


@pytest.mark.parametrize(
    ("changes", "intent", "expected"),
    [
        (
            {"shared": False, "source": "/img/db.qcow2", "shared_why": "ext4"},
            {},
            (
                "unshared_disk",
                "disk vda (/img/db.qcow2) is on local storage (ext4)",
                "put it on shared storage, or permit copying it with allow_storage_copy",
            ),
        ),
        (
            {"shared": False, "type": "block", "source": "/dev/sdb", "shared_why": "local block device sdb"},
            {},
            (
                "unshared_disk",
                "disk vda (/dev/sdb) is on local storage (local block device sdb)",
                (
                    "put it on shared storage, or permit copying it with allow_storage_copy; if all hosts see this "
                    "very device, let the guest name it by what is the same on all of them (/dev/disk/by-id/...), and "
                    "list that name in the inventory (kvmops_cluster_shared_devices)"
                ),
            ),
        ),
        (
            {
                "shared": False,
                "type": "block",
                "source": "/dev/disk/by-id/wwn-0x5",
                "shared_why": "local block device sdb",
            },
            {},
            (
                "unshared_disk",
                "disk vda (/dev/disk/by-id/wwn-0x5) is on local storage (local block device sdb)",
                (
                    "put it on shared storage, or permit copying it with allow_storage_copy; if all hosts see this "
                    'very device, say so in the inventory: kvmops_cluster_shared_devices: ["/dev/disk/by-id/wwn-0x5"]'
                ),
            ),
        ),
        ({"shared": False}, {"allow_storage_copy": True}, None),
        (
            {"shared": False, "readonly": True, "type": "dir", "source": "/iso/x", "shared_why": None},
            {"allow_storage_copy": True},
            (
                "unshared_media",
                "disk vda (/iso/x) is on local storage, and read-only media are not copied",
                "take it out (virsh change-media web1 vda --eject), or put it on shared storage",
            ),
        ),
        (
            {"shared": False, "shareable": True, "source": "/dev/sdb", "shared_why": "local disk"},
            {"allow_storage_copy": True},
            (
                "unshared_shareable_disk",
                (
                    "disk vda (/dev/sdb) is on local storage (local disk), and disks that several guests share are not "
                    "copied"
                ),
                "put it on shared storage, or detach it",
            ),
        ),
        (
            {"shared": False, "type": "dir", "source": "/srv/fat", "shared_why": "ext4"},
            {"allow_storage_copy": True},
            (
                "disk_not_copied",
                "disk vda (/srv/fat) is on local storage (ext4), and libvirt cannot copy a disk of type dir",
                "put it on shared storage or into a file or a volume, or detach it",
            ),
        ),
        ({"source": None, "shared": False, "readonly": True}, {}, None),
        ({"shared": False, "readonly": True, "source": "/iso/x.iso", "startup_policy": "optional"}, {}, None),
        (
            {
                "shared": False,
                "uncopyable": {"code": "local_server", "reason": "vda is served here", "remedy": "detach it"},
            },
            {"allow_storage_copy": True},
            ("local_server", "vda is served here", "detach it"),
        ),
        ({"shared": None}, {}, None),
        ({"type": "network", "source": "rbd:pool/db"}, {}, None),
    ],
)
def test_disks(changes, intent, expected):
    found = judged(domain(disks=[disk(**changes)]), intent=intent)
    assert told(found) == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("files", "policy", "expected"),
    [
        ({"/iso/x.iso": True}, None, []),
        ({"/iso/x.iso": False}, None, [("no_file", "h2 has no /iso/x.iso, the medium in sda of web1")]),
        ({"/iso/x.iso": False}, "optional", []),
        # It was not asked for: libvirt looks before it sends anything.
        ({}, None, []),
    ],
)
def test_a_medium_on_local_storage_may_be_at_the_destination_too(files, policy, expected):
    medium = disk("sda", source="/iso/x.iso", shared=False, shared_why="ext4", readonly=True, startup_policy=policy)
    there = snapshot("h2", resources={"files": files})
    found = judged(domain(disks=[disk(), medium]), destination=there)
    assert [(refused["code"], refused["reason"]) for refused in found] == expected


def test_the_deepest_mount_counts():
    deep = {"path": "/shared/db", "type": "nfs4", "source": "fast:/db", "shared": True}
    source = snapshot("h1", mounts=[*snapshot()["mounts"], deep])
    guest = domain(disks=[disk(source="/shared/db/x.qcow2"), disk("vdb", source="/sharedother/x")])
    (refused,) = judged(guest, source=source)
    assert "is on fast:/db, which h2 has not mounted at /shared/db" in refused["reason"]


@pytest.mark.parametrize("end", ["h1", "h2"])
def test_encryption_needs_both_ends(end):
    hosts = {host: snapshot(host) for host in ("h1", "h2")}
    hosts[end] = without(hosts[end], "migration", **UNUSABLE_TLS)
    assert told(judged(source=hosts["h1"], destination=hosts["h2"])) == [
        (
            "encryption",
            f"encryption is required, but {end} cannot encrypt a migration: there is no /etc/pki/qemu/server-cert.pem",
            "install it, or permit encryption: off",
        )
    ]
    assert judged(source=hosts["h1"], destination=hosts["h2"], intent={"encryption": "off"}) == []


def test_a_big_guest_is_not_sent_over_one_encrypted_channel_that_kills_qemu():
    guest = domain(memory_bytes=56 * GIB)
    there = snapshot("h2", free_bytes=200 * GIB)
    single = without(snapshot("h1", guest), "migration", parallel={"usable": False, "reason": "x", "remedy": "y"})
    assert [r["code"] for r in judged(guest, single, there)] == ["qemu_tls_crash"]
    assert judged(guest, single, there, {"encryption": "off"}) == []
    assert judged(guest, snapshot("h1", guest), there) == [], "parallel channels are not affected"
    assert judged(guest, without(single, "versions", qemu="10.2.0"), there) == []
    assert judged(without(guest, "balloon", rss_bytes=GIB), single, there) == [], "hardly used"


@pytest.mark.parametrize("end", ["h1", "h2"])
def test_no_live_migration(end):
    hosts = {host: snapshot(host) for host in ("h1", "h2")}
    hosts[end] = without(hosts[end], "migration", live=False)
    (refused,) = judged(source=hosts["h1"], destination=hosts["h2"])
    assert refused["reason"] == f"the hypervisor of {end} does not offer live migration"


def test_memory_with_overhead_and_reserve():
    # 512 MiB and, for QEMU, 64 + 2 * 8 + 512 / 256 MiB
    need = (512 + 64 + 16 + 2) * MIB
    assert judged(destination=snapshot("h2", free_bytes=need)) == []
    assert told(judged(destination=snapshot("h2", free_bytes=need - MIB))) == [
        (
            "memory",
            "h2 has room for 593 MiB of guests, but web1 needs 594 MiB (82 MiB of it for QEMU itself)",
            "free 1 MiB on h2, or add a host",
        )
    ]
    assert told(judged(destination=snapshot("h2", free_bytes=need), reserve_bytes=256 * MIB)) == [
        (
            "memory",
            (
                "h2 has room for 594 MiB of guests, but web1 needs 594 MiB (82 MiB of it for QEMU itself), "
                "and 256 MiB must stay free"
            ),
            "free 256 MiB on h2, or add a host, or lower the reserve",
        )
    ]


def test_memory_that_guests_have_not_touched_yet_is_not_free():
    lazy = domain("lazy", memory_bytes=4 * GIB, balloon={"rss_bytes": GIB})
    assert judged(destination=snapshot("h2", lazy, free_bytes=4 * GIB)) == []
    assert [r["code"] for r in judged(destination=snapshot("h2", lazy, free_bytes=3 * GIB))] == ["memory"]
    lazy["state"] = "shutoff"
    assert judged(destination=snapshot("h2", lazy, free_bytes=3 * GIB)) == []


def test_a_guest_that_is_arriving_counts_in_full_where_nobody_can_say_how_much_of_it_is_there():
    job = {"operation": "migration_in", "elapsed_s": None}
    told = {rss: {"current_bytes": 4 * GIB, "unused_bytes": None, "rss_bytes": rss} for rss in (None, GIB)}
    destination_refusals = [
        domain("new", memory_bytes=4 * GIB, state="paused", job=job, balloon=told[rss]) for rss in (None, GIB)
    ]
    silent = domain("silent", memory_bytes=4 * GIB, balloon=told[None])
    free = [
        memory_demand.free_memory(snapshot("h2", guest, free_bytes=20 * GIB)).memory_bytes
        for guest in (*destination_refusals, silent)
    ]
    assert free == [16 * GIB, 17 * GIB, 20 * GIB]


def test_huge_pages_are_taken_already_when_a_guest_starts():
    """A guest on huge pages has hardly any resident memory of the ordinary kind, and promises none of it."""
    lazy = domain("lazy", memory_bytes=8 * GIB, hugepage_bytes=2 * MIB, balloon={"rss_bytes": 50 * MIB})
    assert judged(destination=snapshot("h2", lazy, free_bytes=GIB)) == []


def test_the_oldest_libvirt_that_will_do():
    assert judged(destination=without(snapshot("h2"), "versions", libvirt="9.0.0")) == []
    assert judged(destination=without(snapshot("h2"), "versions", libvirt="8.10.0"))[0]["code"] == "libvirt_too_old"


def test_a_mount_does_not_hold_what_only_begins_like_it():
    """/shared is no parent of /shared2: a disk there is not looked for on the destination's /shared."""
    guest = domain(disks=[disk(source="/shared2/db.qcow2")])
    assert judged(guest, destination=snapshot("h2", mounts=[])) == []


def test_a_host_that_reports_no_memory():
    zero = without(snapshot("h2"), "capacity", available_bytes=0)
    assert [r["code"] for r in judged(destination=zero)] == ["memory"]
    unknown = without(snapshot("h2"), "capacity", available_bytes=None)
    assert [r["reason"] for r in judged(destination=unknown)] == ["h2 did not report its available memory"]


def test_huge_pages():
    guest = domain(hugepage_bytes=2 * MIB)
    there = snapshot("h2", free_bytes=100 * MIB)
    there["capacity"]["cells"][0]["pages"][1]["free"] = 255
    assert told(judged(guest, destination=there)) == [
        (
            "huge_pages",
            "h2 has 255 free huge pages of 2 MiB, but web1 needs 256",
            "reserve 1 more on h2 (/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)",
        )
    ]
    there["capacity"]["cells"][0]["pages"][1]["free"] = 256
    assert judged(guest, destination=there) == [], "its memory does not come out of the ordinary"


def test_every_reason_is_told_at_once():
    there = snapshot("h2", free_bytes=0, maintenance=record("cordoned"), mounts=[])
    blocker = {"code": "hostdev", "reason": "a device is passed through", "remedy": "detach it"}
    found = judged(domain(blockers=[blocker]), destination=there)
    assert [r["code"] for r in found] == ["hostdev", "cordoned", "storage_unreachable", "memory"]


def test_what_is_unknown_is_not_held_against_a_guest():
    bare = snapshot("h2", emulators=None, cpu=None, mounts=None, migration=None, versions=None, maintenance=None)
    assert judged(domain(cpu=None, balloon=None), destination=bare) == []
