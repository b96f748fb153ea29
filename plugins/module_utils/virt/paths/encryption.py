# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a path is encrypted.

from __future__ import annotations

import datetime
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import connect_uri
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import host_files
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_settings import qemu_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import certificates
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import (
    Check,
    Destination,
    PathRequest,
    failed,
    passed,
)


def check_encryption(request: PathRequest, destination: Destination, root: Path) -> Check:
    """Whether guests' memory can be encrypted on its way, and what libvirt says to the other host.

    Args:
        request: what the path is needed for.
        destination: the other host.
        root: of this host's files.
    """
    if request.encryption == "off":
        return passed("encryption", "off", "not asked for")
    exposed = connect_uri.unencrypted(destination.uri)
    if exposed is not None:
        return failed("encryption", exposed)
    settings = host_files.qemu_conf(qemu_settings.text(root))
    user = settings.get("user")
    now = datetime.datetime.now(datetime.timezone.utc)
    verdict = certificates.verdict(settings, user if isinstance(user, str) else "root", now, root)
    if verdict["usable"] is not False:
        return passed("encryption", "ready", f"{request.source} can encrypt a guest's memory")
    return failed(
        "encryption",
        refusal(
            "no_certificates",
            f"{request.source} cannot encrypt a guest's memory: {verdict['reason']}",
            f"{verdict['remedy']}, or permit encryption: off",
        ),
    )
