# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a base image into one particular host: names, keys, certificates, and libvirt's configuration.

All of it is written into the host's own layer before it boots. Whatever the host itself writes later stays there too,
across reboots, until the lab is taken down.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.image import repository
from lab.layout.addresses import Networks
from lab.layout.scenario import HostPlan, Scenario
from lab.machine.network import GUEST_BRIDGE

from .credentials import ensure_certificate

# Inside a host; the guests' definitions name these, so they are the same on all hosts.
BOOT_PLACE = "/usr/share/kvmops-lab"
DEBIAN_PLACE = "/usr/share/kvmops-lab-debian"
SHARED_PLACE = "/shared"
DISK_PLACE = "/var/lib/libvirt/images"
CONSOLE_PLACE = "/var/log/kvmops-lab"

#: Whom QEMU runs as where qemu.conf does not say (Debian's libvirt).
QEMU_USER = "libvirt-qemu"
PRIVATE = 0o600

POOL = "<pool type='dir'><name>{name}</name><target><path>{place}</path></target></pool>\n"

#: A network of libvirt's, for guests that name one instead of a bridge.
LIBVIRT_NETWORK = "lab"
NETWORK = "<network><name>{name}</name><forward mode='bridge'/><bridge name='{bridge}'/></network>\n"

# Units that only cost time in a container.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "console-getty.service",
    "libvirt-guests.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    # The storage server alone has it, as a unit of its own.
    "tgt.service",
)
SOCKETS = (
    "libvirtd.socket",
    "libvirtd-ro.socket",
    "libvirtd-admin.socket",
    "libvirtd-tcp.socket",
    "libvirtd-tls.socket",
)


# systemd-nspawn hands in the old control groups read-only, apart from systemd's own; a real host can write them.
WRITABLE_GROUPS = """[Unit]
Description=Control groups as on a real host
DefaultDependencies=no
Before=libvirtd.service libvirtd.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for group in /sys/fs/cgroup/*/cgroup.procs; do mount -o remount,bind,rw "$${group%/*}"; done'
"""


def prepare(settings: Settings, networks: Networks, scenario: Scenario, host: HostPlan) -> None:
    """Write a host's configuration into its mounted root."""
    root = settings.host_root(host.name)
    _write_names(root, settings, networks, scenario, host)
    _write_ssh(root, settings)
    _write_units(root)
    _write_libvirt(root, networks, host)
    _write_certificates(root, settings, networks, host)
    if host.updates == "backports":
        _write(root / "etc/apt/sources.list", repository.source_line())
    for folder in (BOOT_PLACE, DEBIAN_PLACE, CONSOLE_PLACE, DISK_PLACE, SHARED_PLACE, repository.PLACE):
        _inside(root, folder).mkdir(parents=True, exist_ok=True)


def _inside(root: Path, place: str) -> Path:
    return root / place.lstrip("/")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _write_names(root: Path, settings: Settings, networks: Networks, scenario: Scenario, host: HostPlan) -> None:
    machine_id = hashlib.md5(f"{settings.state}/{host.name}".encode(), usedforsecurity=False).hexdigest()
    _write(root / "etc/machine-id", machine_id + "\n")
    _write(root / "etc/hostname", host.name + "\n")
    hosts = [f"{networks.migration.host(each.number)} {each.name}" for each in scenario.machines]
    _write(root / "etc/hosts", "\n".join(["127.0.0.1 localhost", "::1 localhost", *hosts]) + "\n")
    # There is no name server in the lab; asking one that does not answer costs 20 s and more, each time.
    _write(root / "etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    switch = root / "etc/nsswitch.conf"
    if switch.exists():
        text = re.sub(r"^hosts:.*$", "hosts: files", switch.read_text(encoding="utf-8"), flags=re.M)
        _write(switch, text)


def _write_ssh(root: Path, settings: Settings) -> None:
    keys = settings.ssh_key.parent
    private = settings.ssh_key.read_text(encoding="ascii")
    public = (keys / "id_ed25519.pub").read_text(encoding="ascii")
    _write(root / "root/.ssh/authorized_keys", public, 0o600)
    _write(root / "root/.ssh/id_ed25519", private, 0o600)
    _write(root / "etc/ssh/ssh_known_hosts", settings.known_hosts.read_text(encoding="ascii"))
    _write(root / "etc/ssh/ssh_host_ed25519_key", (keys / "host_ed25519").read_text(encoding="ascii"), 0o600)
    # UsePAM: a login through pam and logind stalls for a minute or more in these containers.
    _write(
        root / "etc/ssh/sshd_config.d/10-lab.conf",
        "HostKey /etc/ssh/ssh_host_ed25519_key\nPermitRootLogin yes\nUsePAM no\nUseDNS no\n"
        "MaxSessions 100\nMaxStartups 100:30:200\nPrintMotd no\nX11Forwarding no\n",
    )


def _write_units(root: Path) -> None:
    units = root / "etc/systemd/system"
    for unit in MASKED:
        _link(units / unit, "/dev/null")
    for unit in SOCKETS:
        _link(units / "sockets.target.wants" / unit, f"/usr/lib/systemd/system/{unit}")
    _link(units / "multi-user.target.wants/libvirtd.service", "/usr/lib/systemd/system/libvirtd.service")
    _link(units / "multi-user.target.wants/ssh.service", "/usr/lib/systemd/system/ssh.service")
    _link(units / "default.target", "/usr/lib/systemd/system/multi-user.target")
    _write(units / "lab-control-groups.service", WRITABLE_GROUPS)
    _link(units / "sysinit.target.wants/lab-control-groups.service", "/etc/systemd/system/lab-control-groups.service")
    # A host that is killed and started many times a minute is what this lab is for.
    _write(units / "libvirtd.service.d/lab.conf", "[Unit]\nStartLimitIntervalSec=0\n")
    _write(root / "etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n")


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    path.symlink_to(target)


def _write_libvirt(root: Path, networks: Networks, host: HostPlan) -> None:
    _write(
        root / "etc/libvirt/libvirtd.conf",
        'host_uuid_source = "machine-id"\nauth_tcp = "none"\nauth_tls = "none"\nlog_level = 3\n'
        "max_clients = 500\nmax_anonymous_clients = 100\n",
    )
    shared = f'shared_filesystems = ["{SHARED_PLACE}"]\n' if host.release != "bookworm" else ""
    _write(
        root / "etc/libvirt/qemu.conf",
        f"max_core = 0\n{shared}",
    )
    # The default network would want a firewall and dnsmasq; the guests have a bridge of their own.
    (root / "etc/libvirt/qemu/networks/autostart/default.xml").unlink(missing_ok=True)
    _write(
        root / f"etc/libvirt/qemu/networks/{LIBVIRT_NETWORK}.xml",
        NETWORK.format(name=LIBVIRT_NETWORK, bridge=GUEST_BRIDGE),
        PRIVATE,
    )
    _link(
        root / f"etc/libvirt/qemu/networks/autostart/{LIBVIRT_NETWORK}.xml",
        f"/etc/libvirt/qemu/networks/{LIBVIRT_NETWORK}.xml",
    )
    # Only in a pool can libvirt make the disk of an arriving guest by itself.
    for name, place in {"images": DISK_PLACE, "shared": SHARED_PLACE}.items():
        _write(root / f"etc/libvirt/storage/{name}.xml", POOL.format(name=name, place=place), PRIVATE)
        _link(root / f"etc/libvirt/storage/autostart/{name}.xml", f"/etc/libvirt/storage/{name}.xml")


def _write_certificates(root: Path, settings: Settings, networks: Networks, host: HostPlan) -> None:
    certificate, key = ensure_certificate(settings, networks, host)
    authority = certificate.parent / "ca-cert.pem"
    copies = [
        (authority, "CA/cacert.pem", 0o644),
        (certificate, "libvirt/servercert.pem", 0o644),
        (certificate, "libvirt/clientcert.pem", 0o644),
        (key, "libvirt/private/serverkey.pem", PRIVATE),
        (key, "libvirt/private/clientkey.pem", PRIVATE),
        (authority, "qemu/ca-cert.pem", 0o644),
        (certificate, "qemu/server-cert.pem", 0o644),
        (certificate, "qemu/client-cert.pem", 0o644),
        (key, "qemu/server-key.pem", PRIVATE),
        (key, "qemu/client-key.pem", PRIVATE),
    ]
    for source, place, mode in copies:
        target = root / "etc/pki" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
        if place.startswith("qemu/") and mode == PRIVATE:
            # QEMU reads it as the distribution's own user, and libvirtd as root.
            os.chown(target, 0, _group_of(root, QEMU_USER))
            target.chmod(0o640)


def _group_of(root: Path, user: str) -> int:
    """Return the number of a user's own group, from the host's /etc/passwd."""
    for line in (root / "etc/passwd").read_text(encoding="utf-8").splitlines():
        fields = line.split(":")
        if fields[0] == user:
            return int(fields[3])
    raise LabError(f"{root}/etc/passwd has no user {user}", "Make the base image anew: its QEMU runs as this user.")
