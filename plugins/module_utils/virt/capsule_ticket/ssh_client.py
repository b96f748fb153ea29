# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this host's side of ssh to a far end. The key is made for one send, the far end's host keys
# are known beforehand, and nothing of the configuration of ssh on this host has a say.

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket_line import RUN_DIR

#: Seconds until an address that does not answer is given up; then it is tried again.
CONNECT_S = 20
#: The last resort to notice a silent cut. The options on the socket itself (link_socket.py) notice it before.
ALIVE_S, ALIVE_COUNT = 30, 6
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:%-]{0,254}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._@-]{0,63}\$?")
_HOST_KEY = re.compile(r"[a-z0-9@.-]{3,60} [A-Za-z0-9+/]{40,2000}={0,2}")


class FarEnd(t.NamedTuple):
    """How a far end is reached.

    Attributes:
        name: in the inventory, for messages.
        address: of its sshd, on the network for migrations if it has one there.
        port: of its sshd.
        user: who logs in.
        host_keys: the public keys of its sshd, each C(type base64).
        ticket: id of the permission to send.
    """

    name: str
    address: str
    port: int
    user: str
    host_keys: tuple[str, ...]
    ticket: str


class SendKey:
    """The key of one send. It is removed with C(remove).

    Args:
        ticket: id of the permission.
        run_dir: where it is kept.
    """

    def __init__(self, ticket: str, run_dir: str = RUN_DIR) -> None:
        self.folder = os.path.join(run_dir, "send", ticket)
        self.path = os.path.join(self.folder, "key")

    def make(self) -> str:
        """Make the key; returns its public part, C(ssh-ed25519 base64).

        Raises:
            CapsuleError: ssh-keygen is missing, or cannot write it.
        """
        os.makedirs(os.path.dirname(os.path.dirname(self.folder)), mode=0o711, exist_ok=True)
        os.makedirs(os.path.dirname(self.folder), mode=0o700, exist_ok=True)
        self.remove()
        os.mkdir(self.folder, mode=0o700)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", self.path]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise CapsuleError(
                "ssh_missing", "there is no ssh-keygen on this host", "install openssh-client (Debian) or openssh"
            ) from error
        if done.returncode:
            raise CapsuleError(
                "ssh_key", f"no key can be made in {self.folder}: {done.stderr.strip()}", "see that /run is not full"
            )
        with open(f"{self.path}.pub", encoding="ascii") as file:
            return " ".join(file.read().split()[:2])

    def exists(self) -> bool:
        """Whether the key is there. It is gone when the host has started anew."""
        return os.path.exists(self.path)

    def remove(self) -> None:
        """Remove the key and all beside it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, far_end: FarEnd) -> list[str]:
        """The command that starts the receiver there.

        Raises:
            CapsuleError: the far end cannot be reached as it was told.
        """
        for what, value, pattern in (("address", far_end.address, _ADDRESS), ("user", far_end.user, _USER)):
            if not pattern.fullmatch(value):
                raise CapsuleError(
                    "far_end_address",
                    f"the {what} {value[:60]!r} of {far_end.name} is not possible",
                    "see kvmops_cluster_migration_address, ansible_host and ansible_user of that host",
                )
        # Several far ends are reached at the same time, each under the same alias.
        known = os.path.join(self.folder, f"known_hosts.{hashlib.sha256(far_end.name.encode()).hexdigest()[:16]}")
        with open(os.open(known, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.writelines(f"{far_end.ticket} {key}\n" for key in far_end.host_keys if _HOST_KEY.fullmatch(key))
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": far_end.ticket,
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            "VerifyHostKeyDNS": "no",
            "ControlPath": "none",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "Compression": "no",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": str(ALIVE_S),
            "ServerAliveCountMax": str(ALIVE_COUNT),
            "TCPKeepAlive": "yes",
            "LogLevel": "ERROR",
            "EscapeChar": "none",
        }
        words = ["ssh", "-F", "none", "-T", "-a", "-x", "-i", self.path, "-p", str(far_end.port), "-l", far_end.user]
        for key, value in options.items():
            words += ["-o", f"{key}={value}"]
        # The command is the one of the permission; this word is for the log of the far end only.
        return [*words, "--", far_end.address, "capsule"]
