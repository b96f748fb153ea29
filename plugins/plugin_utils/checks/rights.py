# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: as whom a cluster is worked on, and what follows from it.

from __future__ import annotations

import typing as t
import urllib.parse

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks.host_checks import Finding

_OVER_SSH = ("qemu+ssh", "qemu+libssh", "qemu+libssh2")
_MESH = "root_ssh_mesh"


def check_rights(snapshots: t.Mapping[str, Snapshot], connect: t.Mapping[str, t.Any]) -> list[Finding]:
    """Return the hosts at which the others log in as root. That stops no move.

    Args:
        snapshots: the hosts that are checked.
        connect: how each is reached by the others.
    """
    why = refusal(
        _MESH,
        "other hosts log in here as root over ssh (a root ssh mesh): who is root on one host is root on all",
        "let the playbook kvmops.cluster.secure_hosts set up users with few rights (docs/guides/least-privilege.md)",
    )
    return [Finding(host=host, bad=False, refusal=why) for host in sorted(snapshots) if _login(connect, host) == "root"]


def model(snapshots: t.Mapping[str, Snapshot], connect: t.Mapping[str, t.Any]) -> str:
    """Say in one line as whom hosts are worked on, and as whom they reach each other.

    Args:
        snapshots: the hosts that are checked.
        connect: how each is reached by the others.
    """
    known = [one for one in (snapshot.get("rights") for snapshot in snapshots.values()) if one]
    users = sorted({one["user"] for one in known})
    logins = sorted({_login(connect, host) or "nobody" for host in snapshots})
    checks = bool(known) and all(one["checks_calls"] for one in known)
    if "root" in logins:
        kind = "a root ssh mesh"
    elif known and checks and not any(one["root"] for one in known):
        kind = "least privilege"
    else:
        kind = "mixed"
    between = (
        "reach each other without a login" if logins == ["nobody"] else f"log in to each other as {listed(logins)}"
    )
    calls = "asks polkit about each call" if checks else "lets who reaches it do everything"
    who = listed(users) if users else "somebody (unknown)"
    return f"Rights: {kind}. Ansible works as {who}; hosts {between}; libvirt {calls}."


def _login(connect: t.Mapping[str, t.Any], host: str) -> str | None:
    """Whom other hosts log in as over ssh; None where they do not use ssh. Where nobody is named, libvirtd is root."""
    parts = urllib.parse.urlsplit(str((connect.get(host) or {}).get("connect_uri") or ""))
    if parts.scheme not in _OVER_SSH:
        return None
    return urllib.parse.unquote(parts.username) if parts.username else "root"
