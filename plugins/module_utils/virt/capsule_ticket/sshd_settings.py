# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what this host's sshd permits, as sshd itself says it.

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError

SSHD = ("/usr/sbin/sshd", "/usr/local/sbin/sshd")
#: Where sshd does not say, these are its defaults.
_DEFAULTS = {"port": ["22"], "authorizedkeysfile": [".ssh/authorized_keys"]}
_HOST_KEYS = ("/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_rsa_key")


class SshdSettings(t.NamedTuple):
    """What a sender must know of this host's sshd.

    Attributes:
        port: where it listens.
        host_keys: its public keys, each C(type base64).
        keys_file: where it looks for the keys that a user may log in with.
    """

    port: int
    host_keys: tuple[str, ...]
    keys_file: str


def read_settings(user: str, sshd: t.Sequence[str] = SSHD) -> SshdSettings:
    """The settings for one user.

    Raises:
        CapsuleError: nobody can log in as this user with a key.
    """
    account = _account(user)
    words = _told(user, sshd)
    if words.get("pubkeyauthentication") == ["no"]:
        raise _no_login(user, "its sshd permits no login with keys", "set PubkeyAuthentication yes in its sshd_config")
    if user == "root" and words.get("permitrootlogin") == ["no"]:
        raise _no_login(
            user,
            "its sshd permits no login of root",
            "set PermitRootLogin forced-commands-only in its sshd_config, or set ansible_user of this host to a user"
            " who may use sudo without a password",
        )
    # The first file is enough: sshd reads all of them.
    pattern = (words.get("authorizedkeysfile") or _DEFAULTS["authorizedkeysfile"])[0]
    if pattern == "none":
        raise _no_login(
            user, "its sshd reads no authorized_keys", "set AuthorizedKeysFile .ssh/authorized_keys in its sshd_config"
        )
    for mark, value in (("%h", account.pw_dir), ("%u", user), ("%U", str(account.pw_uid)), ("%%", "%")):
        pattern = pattern.replace(mark, value)
    ports = words.get("port") or _DEFAULTS["port"]
    return SshdSettings(int(ports[0]), _host_keys(words), os.path.join(account.pw_dir, pattern))


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise _no_login(user, "there is no such user", "set ansible_user of this host to one who can log in") from error


def _told(user: str, sshd: t.Sequence[str]) -> dict[str, list[str]]:
    """What sshd says of its settings for a user; nothing where it cannot be asked."""
    program = next((one for one in sshd if os.access(one, os.X_OK)), None)
    if program is None:
        return {}
    command = [program, "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    words: dict[str, list[str]] = {}
    for line in answer.stdout.splitlines():
        key, *values = line.split()
        words.setdefault(key.lower(), []).extend(values)
    return words


def _host_keys(words: t.Mapping[str, list[str]]) -> tuple[str, ...]:
    keys = [key for key in map(_public_key, words.get("hostkey") or _HOST_KEYS) if key]
    if not keys:
        raise CapsuleError(
            "host_key_missing",
            "the public host keys of this host's sshd cannot be read, so the sender could not know this host again",
            "see that /etc/ssh/ssh_host_ed25519_key exists and root can read it (ssh-keygen -A makes what is missing)",
        )
    return tuple(keys)


def _public_key(path: str) -> str | None:
    """The public part of a host key, from the file beside it or from the key itself."""
    text = ""
    with contextlib.suppress(OSError, ValueError), open(f"{path}.pub", encoding="ascii") as file:
        text = file.read()
    if not text:
        with contextlib.suppress(OSError):
            command = ["ssh-keygen", "-y", "-P", "", "-f", path]
            text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    words = text.split()[:2]
    return " ".join(words) if len(words) == 2 else None


def _no_login(user: str, why: str, remedy: str) -> CapsuleError:
    return CapsuleError("ticket_no_login", f"nobody can send a capsule to this host as {user}: {why}", remedy)
