# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the next capsule of a guest will need of the far end, told before it is stopped.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_checks
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.saving import versions

_TEXTS = ("arch", "machine")


def needs(connection: t.Any, domain: t.Any) -> dict[str, t.Any]:
    """What the capsule of a guest will need, in the form of its document.

    Args:
        connection: to this host's libvirtd.
        domain: the guest.
    """
    look = guest_look.look_at(domain, secure=False)
    kind = look.live.find("os/type")
    return {
        "guest": {"name": look.name, "uuid": look.uuid},
        "arch": "" if kind is None else kind.get("arch", ""),
        "machine": "" if kind is None else kind.get("machine", ""),
        "versions": versions(connection),
        "memory": {"format": save_checks.memory_format(connection, domain)} if look.is_active else None,
    }


def checked(told: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What was told, if it has the right form.

    Raises:
        CapsuleError: it has not.
    """
    try:
        memory = told["memory"]
        found = {
            **{key: str(told[key]) for key in _TEXTS},
            "guest": {key: str(told["guest"][key]) for key in ("name", "uuid")},
            "versions": {key: str(told["versions"][key]) for key in ("libvirt", "qemu")},
            "memory": None if memory is None else {"format": str(memory["format"])},
        }
    except (KeyError, TypeError) as error:
        raise CapsuleError(
            "bad_option", f"needs is not as capsule_move gives it ({error} is missing)", "run capsule_move"
        ) from error
    return found
