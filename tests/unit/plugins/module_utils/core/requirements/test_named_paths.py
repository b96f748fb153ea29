# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import resource_refusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.named_paths import named_paths
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, resources, snapshot


def named(inner):
    return [(path, what) for kind, path, what in named_paths(ET.fromstring(f"<domain>{inner}</domain>"))]


def devices(inner):
    return f"<devices>{inner}</devices>"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (
            devices(
                "<filesystem><driver type='virtiofs'/><binary path='/opt/virtiofsd'/><source dir='/srv'/></filesystem>"
            ),
            [("/srv", "shared directory"), ("/opt/virtiofsd", "virtiofsd")],
        ),
        (
            devices("<filesystem><source socket='/run/v.sock'/></filesystem>"),
            [("/run/v.sock", "socket of a shared directory")],
        ),
        (
            devices("<interface type='vhostuser'><source type='unix' path='/run/vhu1' mode='client'/></interface>"),
            [("/run/vhu1", "socket of a device")],
        ),
        (
            devices("<channel type='unix'><source mode='connect' path='/run/c.sock'/></channel>"),
            [("/run/c.sock", "socket of a device")],
        ),
        (
            devices("<rng><backend model='egd' type='unix'><source mode='connect' path='/run/egd'/></backend></rng>"),
            [("/run/egd", "socket of a device")],
        ),
        (
            devices(
                "<tpm><backend type='external'><source type='unix' mode='connect' path='/run/tpm'/></backend></tpm>"
            ),
            [("/run/tpm", "socket of a device")],
        ),
        (
            devices(
                "<interface type='ethernet'><script path='/etc/qemu-ifup'/><downscript path='/etc/down'/></interface>"
            ),
            [("/etc/down", "script of an interface"), ("/etc/qemu-ifup", "script of an interface")],
        ),
        (
            devices("<graphics type='spice'><gl enable='yes' rendernode='/dev/dri/renderD128'/></graphics>"),
            [("/dev/dri/renderD128", "GPU of a display")],
        ),
        (
            devices(
                "<disk type='network'><source protocol='ssh' name='a'><identity username='u' keyfile='/etc/k'"
                " knownHosts='/etc/kh'/></source></disk>"
            ),
            [("/etc/k", "SSH key of a disk"), ("/etc/kh", "list of SSH hosts of a disk")],
        ),
        (
            "<blkiotune><device><path>/dev/sdb</path><weight>500</weight></device></blkiotune>",
            [("/dev/sdb", "device with I/O limits")],
        ),
        (
            "<cputune><cachetune vcpus='0'><cache id='0' level='3' size='3'/></cachetune></cputune>",
            [("/sys/fs/resctrl/schemata", "control of caches")],
        ),
        ("<vcpu placement='auto'>4</vcpu>", [("/usr/bin/numad", "chooser of NUMA cells")]),
        (
            devices("<interface type='user'><backend type='passt'/></interface>"),
            [("/usr/bin/passt", "network program")],
        ),
        # What is made anew needs its directory.
        ("<os><nvram>/data/nvram/db1.fd</nvram></os>", [("/data/nvram", "directory of the firmware's variables")]),
        (
            "<os><nvram type='file'><source file='/data/nvram/db1.fd'/></nvram></os>",
            [("/data/nvram", "directory of the firmware's variables")],
        ),
        (
            devices("<serial type='file'><source path='/data/log/db1.txt'/><log file='/srv/db1.log'/></serial>"),
            [("/data/log", "directory of the output of a port"), ("/srv", "directory of the output of a port")],
        ),
        (
            devices("<memory model='nvdimm'><source><path>/data/nv/db1</path></source></memory>"),
            [("/data/nv", "directory of memory in a file")],
        ),
        (
            devices("<memory model='nvdimm'><source><path>/dev/dax0.0</path></source></memory>"),
            [("/dev/dax0.0", "device of memory in a file")],
        ),
    ],
)
def test_what_a_definition_names(inner, expected):
    assert named(inner) == expected


@pytest.mark.parametrize(
    "inner",
    [
        # QEMU makes these sockets itself, or tries again and again.
        devices("<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/c'/></channel>"),
        devices("<interface type='vhostuser'><source type='unix' path='/run/vhu1' mode='server'/></interface>"),
        devices(
            "<serial type='unix'><source mode='connect' path='/run/s'><reconnect enabled='yes'/></source></serial>"
        ),
        devices("<serial type='tcp'><source mode='connect' host='10.0.0.1' service='2445'/></serial>"),
        # libvirt makes these directories.
        "<os><nvram>/var/lib/libvirt/qemu/nvram/db1_VARS.fd</nvram></os>",
        devices("<console type='pty'><log file='/var/log/libvirt/qemu/db1-console.log'/></console>"),
        # Names that are no paths.
        "<os><kernel/><loader>  </loader><nvram template=''/></os>",
        devices("<filesystem type='ram'><source usage='1' units='KiB'/></filesystem>"),
        devices("<interface type='user'/><rng><backend model='builtin'/></rng>"),
        "<vcpu placement='static' cpuset='0-3'>4</vcpu>",
    ],
)
def test_what_the_destination_needs_not_have(inner):
    assert named(inner) == []


@pytest.mark.parametrize(
    ("path", "what", "reason", "remedy"),
    [
        ("/srv/d", "shared directory", "h2 has no /srv/d, the shared directory of web1", "make it on h2 as on h1"),
        (
            "/data/nvram",
            "directory of the firmware's variables",
            "h2 has no /data/nvram, the directory of the firmware's variables of web1",
            "make it on h2 as on h1",
        ),
        (
            "/run/v.sock",
            "socket of a device",
            "h2 has no /run/v.sock, the socket of a device of web1",
            "start on h2 what listens there on h1",
        ),
        (
            "/sys/fs/resctrl/schemata",
            "control of caches",
            "h2 has no /sys/fs/resctrl/schemata, the control of caches of web1",
            "mount it on h2 (mount -t resctrl resctrl /sys/fs/resctrl), if its CPUs have that",
        ),
    ],
)
def test_how_a_destination_gets_it(path, what, reason, remedy):
    guest = domain("web1", requires=[{"kind": "file", "name": path, "what": what}])
    there = snapshot("h2", resources=resources(files={path: False}))
    (found,) = resource_refusals.refusals(guest, snapshot("h1", guest), there)
    assert (found["code"], found["reason"]) == ("no_file", reason)
    assert found["remedy"] == f"{remedy}, or choose another host than h2"
