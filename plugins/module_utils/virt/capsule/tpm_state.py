# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the state of a TPM that libvirt emulates, as one file. A tar file that came from elsewhere
# is hostile: nothing in it leads out of its directory.

from __future__ import annotations

import contextlib
import grp
import io
import os
import pwd
import re
import shutil
import tarfile

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import MOST_STATE_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError

#: Where libvirt keeps the state of emulated TPMs, a directory for each guest's UUID.
TPM_STATE = "/var/lib/libvirt/swtpm"
#: The user that swtpm runs as, if qemu.conf does not say: of Debian, of Fedora.
USERS = ("tss", "swtpm")
MOST_FILES = 64

_NAME = re.compile(r"(tpm1\.2|tpm2)/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SETTING = re.compile(r'^\s*(swtpm_user|swtpm_group)\s*=\s*"([A-Za-z0-9_.-]{1,64})"', re.MULTILINE)


def packed(uuid: str, root: str = TPM_STATE) -> bytes | None:
    """The state of a guest's TPM; the same state gives the same bytes. None: the guest has none here.

    Raises:
        CapsuleError: it cannot be read.
    """
    folder = os.path.join(root, uuid)
    output = io.BytesIO()
    count = 0
    try:
        with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in _files(folder):
                with open(os.path.join(folder, name), "rb") as file:
                    content = file.read(MOST_STATE_BYTES + 1)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                entry.mode = 0o600
                tar.addfile(entry, io.BytesIO(content))
                count += 1
    except OSError as error:
        raise CapsuleError(
            "tpm_unreadable",
            f"the state of the TPM in {folder} cannot be read: {error.strerror or error}",
            "run the task as root (become: true)",
        ) from error
    return output.getvalue() if count else None


def _files(folder: str) -> list[str]:
    found = []
    for kind in ("tpm1.2", "tpm2"):
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(os.path.join(folder, kind))):
                path = f"{kind}/{name}"
                if _NAME.fullmatch(path) and os.path.isfile(os.path.join(folder, path)):
                    found.append(path)
    return found


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of a state, by name.

    Raises:
        CapsuleError: it is none, or has something else than such files.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for entry in tar:
                file = tar.extractfile(entry) if entry.isreg() else None
                if file is None or not _NAME.fullmatch(entry.name) or len(found) >= MOST_FILES:
                    raise _damaged(f"it has {entry.name[:80]!r} in it")
                found[entry.name] = file.read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(str(error)) from error
    return found


def _damaged(why: str) -> CapsuleError:
    return CapsuleError(
        "tpm_damaged",
        f"the state of the TPM in the capsule cannot be used: {why}",
        "save the guest again where it runs, and send that capsule",
    )


def put(uuid: str, files: dict[str, bytes], root: str = TPM_STATE, conf: str = "/etc/libvirt/qemu.conf") -> str:
    """Put the state of a TPM to where libvirt looks for it; returns that directory. Nothing may be there.

    Raises:
        CapsuleError: it cannot be put there; then nothing of it is left.
    """
    folder = os.path.join(root, uuid)
    owner = _owner(conf)
    try:
        os.makedirs(root, mode=0o711, exist_ok=True)
        os.mkdir(folder, 0o711)
        os.chmod(folder, 0o711)  # noqa: S103 - swtpm, which is not root, must pass
        for kind in sorted({name.partition("/")[0] for name in files}):
            os.mkdir(os.path.join(folder, kind), 0o700)
            os.chown(os.path.join(folder, kind), *owner)
        for name, content in files.items():
            _write(os.path.join(folder, name), content, owner)
    except OSError as error:
        if not isinstance(error, FileExistsError):
            shutil.rmtree(folder, ignore_errors=True)
        raise CapsuleError(
            "tpm_not_placed",
            f"the state of the TPM cannot be put into {folder}: {error.strerror or error}",
            f"see what is in the way: ls -la {folder}",
        ) from error
    return folder


def _write(path: str, content: bytes, owner: tuple[int, int]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, *owner)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _owner(conf: str) -> tuple[int, int]:
    """The user and group that swtpm runs as on this host; root where nobody else is known."""
    settings: dict[str, str] = {}
    with contextlib.suppress(OSError), open(conf, encoding="utf-8", errors="replace") as file:
        settings = dict(_SETTING.findall(file.read()))
    for user in filter(None, (settings.get("swtpm_user"), *USERS)):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(user)
            group = settings.get("swtpm_group")
            return found.pw_uid, grp.getgrnam(group).gr_gid if group else found.pw_gid
    return 0, 0
