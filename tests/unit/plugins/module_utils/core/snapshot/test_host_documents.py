# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    capabilities,
    certificate,
    host_files,
    known_bugs,
)

FIXTURES = Path(__file__).parents[4] / "fixtures"


@pytest.fixture
def real():
    return capabilities.parse((FIXTURES / "capabilities.xml").read_text())


def test_real_capabilities(real):
    assert capabilities.host_uuid(real) == "66eebad9-a9ca-d73a-de90-798a1834f27a"
    cpu = capabilities.cpu(real)
    assert (cpu["arch"], cpu["model"], cpu["vendor"]) == ("x86_64", "kvm64-v1", "AMD")
    assert "avx2" in cpu["features"]
    assert capabilities.transports(real) == ["tcp", "rdma"]
    assert capabilities.live(real)
    (cell,) = capabilities.cells(real)
    assert [page["size_bytes"] for page in cell["pages"]] == [4096, 2 << 20, 1 << 30]
    emulators = capabilities.emulators(real)
    assert [(kind.type, kind.arch) for kind in emulators] == [
        ("kvm", "i686"),
        ("kvm", "x86_64"),
        ("qemu", "i686"),
        ("qemu", "x86_64"),
    ]
    # Guests carry the real name, operators may also know the alias.
    assert {"pc-q35-10.0", "q35", "pc-q35-7.2"} <= set(emulators[1].machines)


def test_a_model_of_which_libvirt_does_not_know_is_not_ruled_out():
    told = "".join(f"<model usable='{usable}'>{usable}</model>" for usable in ("yes", "no", "unknown"))
    xml = f"<domainCapabilities><cpu><mode name='custom' supported='yes'>{told}</mode></cpu></domainCapabilities>"
    assert capabilities.usable_models(capabilities.parse(xml)) == ["yes", "unknown"]


def test_usable_models():
    real = capabilities.parse((FIXTURES / "domain_capabilities.xml").read_text())
    assert capabilities.usable_models(real) == ["kvm64", "qemu64"]


def test_several_cells_with_their_own_page_sizes():
    xml = """<capabilities><host><topology><cells num='2'>
      <cell id='0'><memory unit='KiB'>1024</memory><pages unit='KiB' size='4'>256</pages><cpus num='8'/></cell>
      <cell id='3'><memory unit='KiB'>2048</memory><pages unit='KiB' size='1048576'>2</pages><cpus num='4'/></cell>
    </cells></topology></host></capabilities>"""
    assert [
        (c["id"], c["cpus"], c["memory_bytes"], c["pages"]) for c in capabilities.cells(capabilities.parse(xml))
    ] == [
        (0, 8, 1 << 20, [{"size_bytes": 4096, "free": None}]),
        (3, 4, 2 << 20, [{"size_bytes": 1 << 30, "free": None}]),
    ]


DEBIAN_12, DEBIAN_13, NEWER = ((9, 0, 0), (7, 2, 22)), ((11, 3, 0), (10, 0, 13)), ((12, 8, 0), (11, 1, 2))


@pytest.mark.parametrize(
    ("versions", "kvm", "codes"),
    [
        (DEBIAN_12, True, ["libvirt_shutdown_crash", "libvirt_tls_disks", "qemu_tls_crash"]),
        (
            DEBIAN_12,
            False,
            [
                "libvirt_shutdown_crash",
                "libvirt_tls_disks",
                "qemu_tls_crash",
                "qemu_postcopy_corruption",
                "qemu_dirty_bitmap_crash",
            ],
        ),
        (
            DEBIAN_13,
            True,
            [
                "libvirt_postcopy_resume_crash",
                "libvirt_ht_feature",
                "libvirt_incoming_xml",
                "qemu_tls_crash",
                "qemu_long_queues",
            ],
        ),
        (NEWER, True, ["libvirt_postcopy_hang"]),
        ((None, None), True, []),
    ],
)
def test_known_bugs_of_a_host(versions, kvm, codes):
    assert [bug["code"] for bug in known_bugs.bugs(*versions, kvm=kvm)] == codes


def test_a_known_bug_names_the_version_and_the_way_out():
    bug = known_bugs.bugs(*DEBIAN_13, kvm=True)[0]
    assert bug["reason"] == "libvirt 11.3 dies at the destination when a broken post-copy is resumed there"
    assert bug["remedy"] == "upgrade libvirt to 11.4 or later, or do without post-copy"


@pytest.mark.parametrize(
    ("here", "there", "code"),
    [
        (DEBIAN_13, ((11, 3, 0), (11, 1, 3)), "qemu_long_queues"),
        (((11, 3, 0), (10, 0, 2)), ((11, 3, 0), (11, 1, 3)), None),
        (DEBIAN_12, DEBIAN_13, None),
        (DEBIAN_13, DEBIAN_12, "qemu_older"),
        (((9, 1, 0), (7, 2, 22)), DEBIAN_12, "libvirt_older"),
    ],
)
def test_what_two_hosts_mean_to_each_other(here, there, code):
    note = known_bugs.between("h1", here, "h2", there)
    assert (note["code"] if note else None) == code


@pytest.mark.parametrize(
    ("libvirt", "usable"),
    [
        ((9, 0, 0), True),
        ((11, 1, 0), True),
        ((11, 2, 0), False),
        ((11, 3, 0), False),
        ((11, 4, 0), True),
        ((8, 9, 0), False),
    ],
)
def test_resuming_a_post_copy(libvirt, usable):
    works = known_bugs.postcopy((8, 2, 0), kvm=True, qemu_user="root", unprivileged_userfaultfd="0")
    assert known_bugs.postcopy_recover(libvirt, works)["usable"] is usable


def test_post_copy_needs_userfaultfd():
    def ask(user, value, **more):
        return known_bugs.postcopy((10, 0, 0), kvm=True, qemu_user=user, unprivileged_userfaultfd=value, **more)

    refused = ask("libvirt-qemu", "0")
    assert refused == {
        "usable": False,
        "reason": "QEMU runs as libvirt-qemu and vm.unprivileged_userfaultfd is 0",
        "remedy": "sysctl -w vm.unprivileged_userfaultfd=1, and put it into /etc/sysctl.d",
    }
    assert ask("libvirt-qemu", "1")["usable"] is True
    assert ask("root", "0")["usable"] is True
    assert ask("libvirt-qemu", None)["usable"] is None
    assert known_bugs.postcopy_recover((11, 4, 0), refused) == refused


def test_compression_by_version():
    assert known_bugs.compression(*DEBIAN_12) == ["xbzrle", "mt"]
    assert known_bugs.compression(*DEBIAN_13) == ["xbzrle", "zlib", "zstd"]


MOUNTINFO = """127 100 0:40 / / rw shared:5 - overlay lab-h1 rw,lowerdir=/x
128 127 0:46 / /tmp rw shared:6 - tmpfs tmpfs rw
129 127 0:22 / /sys rw - sysfs sysfs rw
130 127 0:50 / /srv/my\\040guests rw,relatime master:1 - nfs4 nas:/guests rw
131 127 0:51 / /data rw - xfs /dev/sda1 rw
132 131 0:52 / /data rw - ceph 10.0.0.1:6789:/ rw
133 127 0:53 / /run/lock rw - tmpfs tmpfs rw
broken line
"""


def test_mounts():
    found = host_files.mounts(MOUNTINFO)
    assert [(m["path"], m["type"], m["source"], m["shared"]) for m in found] == [
        ("/", "overlay", "lab-h1", False),
        ("/data", "ceph", "10.0.0.1:6789:/", True),
        ("/srv/my guests", "nfs4", "nas:/guests", True),
        ("/tmp", "tmpfs", "tmpfs", False),
    ]
    assert host_files.mount_of("/database", found)["path"] == "/"
    assert host_files.mount_of("/data/a.qcow2", found)["path"] == "/data"


def test_directories_that_the_operator_declared_shared():
    found = host_files.mounts(MOUNTINFO, ["/shared/", "/tmp"])
    assert [m for m in found if m["path"] in ("/shared", "/tmp")] == [
        {"path": "/shared", "type": "overlay", "source": "/shared (shared_filesystems)", "shared": True},
        {"path": "/tmp", "type": "tmpfs", "source": "/tmp (shared_filesystems)", "shared": True},
    ]


@pytest.mark.parametrize(
    ("mount", "libvirt", "expected"),
    [
        ("nfs4 nas:/g rw", None, "shared"),
        ("acfs /dev/asm/vol rw", None, "shared"),
        ("fuse.glusterfs srv:/vol rw", None, "shared"),
        ("fuse.quobyte quobyte@srv/vol rw", None, "shared"),
        ("cifs //nas/g rw,vers=1.0,uid=0", None, "shared"),
        ("cifs //nas/g rw,vers=3.0", None, "undeclared"),
        ("cifs //nas/g rw", None, "undeclared"),
        ("smb3 //nas/g rw", None, "undeclared"),
        ("lustre mgs@tcp:/l rw", None, "undeclared"),
        ("fuse.ceph-fuse ceph-fuse rw", None, "undeclared"),
        ("fuse.moosefs master:9421 rw", None, "undeclared"),
        ("fuse.juicefs JuiceFS:vol rw", None, "undeclared"),
        ("beegfs beegfs_nodev rw", (9, 5, 0), "undeclared"),
        ("beegfs beegfs_nodev rw", (9, 6, 0), "shared"),
        ("beegfs beegfs_nodev rw", None, "shared"),
        ("ext4 /dev/sda1 rw", None, "local"),
        ("fuse.mergerfs a:b rw", None, "local"),
    ],
)
def test_what_libvirt_takes_for_shared(mount, libvirt, expected):
    (found,) = host_files.mounts(f"40 1 0:99 / /srv rw,relatime shared:7 - {mount}\n", libvirt=libvirt)
    told = "shared" if found["shared"] else "undeclared" if found.get("undeclared") else "local"
    assert told == expected


def test_what_qemu_conf_declares_is_not_undeclared_any_more():
    (found,) = host_files.mounts("40 1 0:99 / /srv rw - lustre mgs@tcp:/l rw\n", ["/srv"])
    assert found == {"path": "/srv", "type": "lustre", "source": "/srv (shared_filesystems)", "shared": True}


@pytest.mark.parametrize(
    ("line", "source"),
    [
        ("1 0 0:1 / /g rw - ceph 10.9.0.1:/ rw", "10.9.0.1:/"),
        ("1 0 0:1 /vms /g rw - ceph 10.9.0.1:/ rw", "10.9.0.1:/vms"),
        ("1 0 0:1 /two\\040words /g rw - fuse.glusterfs h1:/vol rw", "h1:/vol/two words"),
        ("1 0 0:1 /vms /g rw - gfs2 /dev/mapper/lun rw", "/dev/mapper/lun/vms"),
        # The kernel tells it itself.
        ("1 0 0:1 /vms /g rw - nfs4 nas:/export/vms rw", "nas:/export/vms"),
        ("1 0 0:1 /vms /g rw - cifs //nas/export/vms rw,vers=3.1.1", "//nas/export/vms"),
        # Of local storage it is of no interest.
        ("1 0 0:1 /@home /home rw - btrfs /dev/sda2 rw", "/dev/sda2"),
    ],
)
def test_a_directory_of_shared_storage_that_is_bound_elsewhere(line, source):
    (mount,) = host_files.mounts(line)
    assert mount["source"] == source


def test_the_kinds_of_cpus_that_the_kernel_tells():
    """big.LITTLE: a host may have two kinds."""
    one = "processor\t: {}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    text = "".join(one.format(number, part) for number, part in enumerate(("0xd05", "0xd0b", "0xd05")))
    assert host_files.cpu_identity(text) == [
        "CPU implementer: 0x41",
        "CPU part: 0xd05",
        "CPU part: 0xd0b",
        "Features: fp asimd",
    ]
    assert host_files.cpu_identity(None) is None
    assert host_files.cpu_identity("processor: 0\n") is None


FILE_SYSTEMS_OF_SEVERAL_HOSTS = """\
30 1 0:40 / /mfs rw - fuse.moosefs mfs#master:9421 rw
31 1 0:41 / /cephfuse rw - fuse.ceph-fuse ceph-fuse rw
32 1 0:42 / /lustre rw - lustre mgs@tcp:/fs rw
33 1 0:43 / /smb rw - cifs //nas/guests rw,vers=3.1.1
34 1 0:44 / /acfs rw - acfs /dev/asm/v1 rw
35 1 0:45 / /nfs rw - nfs4 nas:/g rw
36 35 0:46 / /nfs/scratch rw - devtmpfs dev rw
37 35 0:47 / /nfs/fast rw - ext4 /dev/sdb1 rw
38 1 0:48 / /sheep rw - fuse.sshfs root@h1:/guests rw
39 1 0:49 / /usb rw - fuseblk /dev/sdc1 rw
40 1 0:50 / /smb1 rw - cifs //old/guests rw,vers=1.0
"""


def test_what_libvirt_takes_each_of_these_for():
    seen = {mount["path"]: mount for mount in host_files.mounts(FILE_SYSTEMS_OF_SEVERAL_HOSTS)}
    assert [path for path, mount in seen.items() if mount["shared"]] == ["/acfs", "/nfs", "/smb1"]
    assert [path for path, mount in seen.items() if mount.get("undeclared")] == [
        "/cephfuse",
        "/lustre",
        "/mfs",
        "/sheep",
        "/smb",
    ]
    assert sorted(path for path, mount in seen.items() if not mount["shared"] and not mount.get("undeclared")) == [
        "/nfs/fast",
        "/nfs/scratch",
        "/usb",
    ]


def test_another_file_system_below_shared_storage_hides_a_part_of_it():
    text = (
        "40 1 0:99 / /srv rw - nfs4 nas:/g rw\n"
        "41 40 0:98 / /srv/cache rw - devtmpfs dev rw\n"
        "42 1 0:97 / /opt rw - squashfs /dev/loop1 ro\n"
        "43 40 0:96 / /srv/cache/db rw - ext4 /dev/sdb rw\n"
    )
    found = host_files.mounts(text)
    assert [(mount["path"], mount["shared"]) for mount in found] == [
        ("/srv", True),
        ("/srv/cache", False),
        ("/srv/cache/db", False),
    ]
    assert host_files.mount_of("/srv/cache/a.qcow2", found)["type"] == "devtmpfs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("#user = 'x'\n# group = \"kvm\"\n", {}),
        ('user = ""\n', {"user": ""}),
        ('  user="libvirt-qemu" # who\n', {"user": "libvirt-qemu"}),
        ("max_core = 0\nmigrate_tls_force = 1", {"max_core": 0, "migrate_tls_force": 1}),
        (
            'namespaces = []\nshared_filesystems = [ "/a b", "/c]d" ]',
            {"namespaces": [], "shared_filesystems": ["/a b", "/c]d"]},
        ),
        ('a = [\n  "1", # "2"\n  # "3"\n  "4",\n]\nb = 5\n', {"a": ["1", "4"], "b": 5}),
        ("broken = \nnext = 1\n", {"next": 1}),
        ('p = "C:\\\\x \\"y\\""', {"p": 'C:\\x "y"'}),
    ],
)
def test_qemu_conf(text, expected):
    assert host_files.qemu_conf(text) == expected


def der(tag, content):
    size = len(content)
    head = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + head + content


def pem(not_before, not_after, *, version=True, filler=0):
    dates = der(0x30, not_before + not_after)
    fields = (der(0xA0, der(2, b"\2")) if version else b"") + der(2, b"\1") + der(0x30, b"") + der(0x30, b"x" * filler)
    body = der(0x30, der(0x30, fields + dates + der(0x30, b"")))
    return "noise\n-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(body).decode() + "-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("more", [{}, {"version": False}, {"filler": 400}])
def test_the_dates_of_a_certificate(more):
    text = pem(der(0x17, b"261124020000Z"), der(0x18, b"20510101000000Z"), **more)
    assert certificate.validity(text) == (
        datetime.datetime(2026, 11, 24, 2, tzinfo=datetime.timezone.utc),
        datetime.datetime(2051, 1, 1, tzinfo=datetime.timezone.utc),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        pem(b"", b""),
        pem(der(0x17, b"x"), der(0x17, b"y")),
    ],
)
def test_what_is_no_certificate(text):
    assert certificate.validity(text) is None
