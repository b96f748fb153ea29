# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the environment of libvirt's daemon, which carries out the migrations.

from __future__ import annotations

import contextlib
from pathlib import Path

NAMES = ("virtqemud", "libvirtd")
#: What systemd gives a service that asks for nothing.
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def environment(proc: Path = Path("/proc")) -> dict[str, str]:
    """The environment of the host's libvirt daemon: what the ssh that it starts will see.

    A daemon that only a client's call wakes up has systemd's plain one.
    """
    for name in NAMES:
        for entry in sorted(proc.glob("[0-9]*")):
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text(encoding="utf-8", errors="replace").strip() == name:
                    return _parsed((entry / "environ").read_bytes())
    return dict(PLAIN)


def _parsed(data: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in data.decode("utf-8", "surrogateescape").split("\0"))
    return {key: value for key, separator, value in pairs if separator and key}
