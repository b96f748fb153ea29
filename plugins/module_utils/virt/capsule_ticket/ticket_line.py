# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the permission to send one capsule to this host. It is a line in authorized_keys that lets
# one key start one command. The line has an end, after which sshd does not take it, and later runs remove it.

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import stat
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import sync_directory

#: Where tickets, keys and the code of the receiver are. It is gone when the host starts anew.
RUN_DIR = "/run/kvmops"
#: In the comment of each line, so that only lines of ours are ever removed.
MARK = "kvmops-capsule"
_LINE = re.compile(rf"\s{MARK} ([A-Za-z0-9-]{{8,64}}) expires=(\d{{1,12}})\s*$")
_PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{40,120}={0,2}")
_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
#: No word of the command may end its quotes in authorized_keys, or be expanded by a shell.
_WORD = re.compile(r"[A-Za-z0-9_./=+:@-]{1,300}")


class Line(t.NamedTuple):
    """One permission.

    Attributes:
        ticket: its id.
        public_key: C(ssh-ed25519 base64).
        command: words of the command that the key starts.
        expires_at: seconds since 1970.
    """

    ticket: str
    public_key: str
    command: tuple[str, ...]
    expires_at: int

    def text(self) -> str:
        """The line of authorized_keys.

        Raises:
            ValueError: a part would mean something else in that file.
        """
        if not _ID.fullmatch(self.ticket) or not _PUBLIC_KEY.fullmatch(self.public_key):
            raise ValueError("the ticket or its key is not possible")
        if not all(_WORD.fullmatch(word) for word in self.command):
            raise ValueError(f"the command {self.command!r} cannot stand in authorized_keys")
        # Local time: sshd before 9.1 knows no other.
        until = time.strftime("%Y%m%d%H%M", time.localtime(self.expires_at))
        options = f'restrict,expiry-time="{until}",command="{" ".join(self.command)}"'
        return f"{options} {self.public_key} {MARK} {self.ticket} expires={self.expires_at}"


def add_line(path: str, user: str, line: Line, run_dir: str = RUN_DIR) -> None:
    """Permit it. Lines whose time is over are removed.

    Raises:
        CapsuleError: the file cannot be written.
    """
    _change(path, user, run_dir, without=line.ticket, add=line.text())


def remove_line(path: str, user: str, ticket: str, run_dir: str = RUN_DIR) -> bool:
    """Permit it no longer; true if it was permitted."""
    return _change(path, user, run_dir, without=ticket, add=None)


def _change(path: str, user: str, run_dir: str, *, without: str, add: str | None) -> bool:
    account = pwd.getpwnam(user)
    os.makedirs(run_dir, mode=0o711, exist_ok=True)
    lock = os.open(os.path.join(run_dir, "authorized_keys.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _as_user(account):
            return _rewrite(os.path.realpath(path), without, add)
    except OSError as error:
        raise CapsuleError(
            "authorized_keys",
            f"{path} cannot be changed ({error.strerror}), and without that nobody can send a capsule to this host",
            f"see who owns {os.path.dirname(path)} and whether its file system is full or read-only",
        ) from error
    finally:
        os.close(lock)


@contextlib.contextmanager
def _as_user(account: pwd.struct_passwd) -> t.Iterator[None]:
    """Open files as the user does: where a link leads in the user's home is not for root to follow."""
    if os.geteuid() != 0 or account.pw_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _rewrite(path: str, without: str, add: str | None) -> bool:
    old = _read(path)
    now, kept, removed = time.time(), [], False
    for text in old.splitlines():
        found = _LINE.search(text)
        if found is None or (found.group(1) != without and int(found.group(2)) > now):
            kept.append(text)
        elif found.group(1) == without:
            removed = True
    new = "".join(f"{text}\n" for text in [*kept, *([add] if add else [])])
    if new != old and not (add is None and kept == old.splitlines()):
        _replace(path, new)
    return removed


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(path: str, content: str) -> None:
    """Write beside, and rename, so that no login ever meets a part of the file."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    mode, label = 0o600, None
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        with contextlib.suppress(OSError):
            label = os.getxattr(path, "security.selinux")
    beside = os.path.join(folder, f".authorized_keys.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if label is not None:
                with contextlib.suppress(OSError):
                    os.setxattr(file.fileno(), "security.selinux", label)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_directory(folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
