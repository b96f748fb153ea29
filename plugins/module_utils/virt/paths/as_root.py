# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether root's libvirtd reaches another host, tried by a user who is not root. It takes one
# command that the role secure_hosts permits to this user, for the addresses of the cluster's hosts only.

from __future__ import annotations

import os
import shlex
import subprocess

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import explain_connection

#: What sudo says where it does not permit the command.
_SUDO = ("a password is required", "is not allowed to", "may not run", "not in the sudoers file")
NOT_TRIED = "not_tried_as_root"
#: What libvirt says before its own text.
_PREFIX = "error: "
_MOST = 500


def command(uri: str) -> list[str]:
    """The command that root runs; templates/sudoers.j2 of the role permits it word for word."""
    return ["/usr/bin/virsh", "-r", "-c", uri, "version"]


def unreachable(source: str, uri: str) -> Refusal | None:
    """Why root of this host does not reach a libvirtd; None where it does, and where this process is root.

    Args:
        source: this host's name.
        uri: of the other host's libvirtd.
    """
    if os.geteuid() == 0:
        return None
    try:
        done = subprocess.run(
            ["sudo", "-n", *command(uri)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        return _not_tried(source, uri, error.strerror or str(error))
    if done.returncode == 0:
        return None
    said = one_line(done.stderr.strip() or done.stdout.strip(), _MOST)
    if any(part in said for part in _SUDO):
        return _not_tried(source, uri, said)
    return explain_connection(uri, said[len(_PREFIX) :] if said.startswith(_PREFIX) else said)


def _not_tried(source: str, uri: str, why: str) -> Refusal:
    return refusal(
        NOT_TRIED,
        f"{uri} answers this user; whether it answers root of {source}, as which libvirtd connects, was not tried: "
        f"{why}",
        f"run kvmops.cluster.secure_hosts, which permits it, or try it as root: virsh -r -c {shlex.quote(uri)} version",
    )
