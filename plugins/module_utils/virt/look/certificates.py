# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether QEMU on this host can encrypt a migration.

from __future__ import annotations

import datetime
import pwd
import stat
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.certificate import validity
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import Setting
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.known_bugs import Verdict

DEFAULT_DIRECTORY = "/etc/pki/qemu"
#: As destination QEMU shows the server's certificate. As source it needs the client's: libvirt verifies clients by
#: default.
CERTIFICATES = ("ca-cert.pem", "server-cert.pem", "client-cert.pem")
KEYS = ("server-key.pem", "client-key.pem")


def directory(settings: t.Mapping[str, Setting]) -> str:
    """Where QEMU's certificates for migration are."""
    for key in ("migrate_tls_x509_cert_dir", "default_tls_x509_cert_dir"):
        value = settings.get(key)
        if isinstance(value, str) and value:
            return value
    return DEFAULT_DIRECTORY


def verdict(
    settings: t.Mapping[str, Setting], qemu_user: str, now: datetime.datetime, root: Path = Path("/")
) -> Verdict:
    """Whether this host can encrypt a migration, as source and as destination. Reads files, and opens no connection."""
    where = directory(settings)
    folder = root / where.lstrip("/")
    remedy = (
        f"put ca-cert.pem and the server's and the client's certificate and key into {where} (see virt-pki-validate)"
    )
    try:
        missing = [name for name in (*CERTIFICATES, *KEYS) if not (folder / name).is_file()]
        if missing:
            return _no(f"{where} has no {' and no '.join(missing[:2])}", remedy)
        for name in CERTIFICATES:
            problem = _expired(folder / name, f"{where}/{name}", now)
            if problem:
                return _no(problem, f"renew {where}/{name}")
    except OSError as error:
        return {"usable": None, "reason": f"{where} cannot be read: {error.strerror}", "remedy": "run as root"}
    for name in KEYS:
        if not _readable(folder / name, qemu_user):
            return _no(
                f"QEMU runs as {qemu_user}, who may not read {where}/{name}",
                f"give {qemu_user} the right to read it (chgrp and chmod 0640)",
            )
    return {"usable": True, "reason": None, "remedy": None}


def _expired(path: Path, shown: str, now: datetime.datetime) -> str | None:
    dates = validity(path.read_text(encoding="ascii", errors="replace"))
    if dates is None:
        return f"{shown} is not a certificate"
    if now >= dates.not_after:
        return f"{shown} expired on {dates.not_after:%Y-%m-%d}"
    if now < dates.not_before:
        return f"{shown} is valid only from {dates.not_before:%Y-%m-%d %H:%M} UTC on (is this host's clock right?)"
    return None


def _readable(path: Path, user: str) -> bool:
    """Whether this user may read a file. If its group may read it, it counts as readable: groups are not checked."""
    try:
        account = pwd.getpwnam(user) if not user.lstrip("+").isdigit() else pwd.getpwuid(int(user.lstrip("+")))
        status = path.stat()
    except (KeyError, OSError):
        return True
    if account.pw_uid in (0, status.st_uid):
        return True
    return bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _no(reason: str, remedy: str) -> Verdict:
    return {"usable": False, "reason": reason, "remedy": remedy}
