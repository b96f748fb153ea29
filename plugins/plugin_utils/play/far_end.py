# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how one host reaches another one for capsules, as the inventory says it.

from __future__ import annotations

import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.other_host import OtherHost

_MIB = 1024**2


def connection(other: OtherHost) -> dict[str, t.Any]:
    """How migrations reach a host; capsules go the same way."""
    return dict(registered_results.connection(other.name, _Variables(other)))


def encryption(other: OtherHost) -> bool:
    """Whether a host takes the memory of guests only into a store that is encrypted."""
    return boolean(other.variable("kvmops_cluster_capsule_require_encrypted") or False)


def reached(
    other: OtherHost, user: str, how: t.Mapping[str, t.Any], permitted: t.Mapping[str, t.Any] | None
) -> dict[str, t.Any]:
    """The far end, as the modules on the source take it.

    Args:
        other: the host.
        user: who logs in there.
        how: see L(connection).
        permitted: C(far_end) of the result of capsule_receive; None in check mode.
    """
    found = permitted or {}
    address = how["migration_address"] or other.variable("ansible_host") or other.name
    port = found.get("port") or 22
    if not how["migration_address"] and other.variable("ansible_port"):
        port = int(other.variable("ansible_port"))
    rate = how["bandwidth_mib_s"]
    return {
        "name": other.name,
        "address": str(address),
        "port": port,
        "user": user,
        "host_keys": found.get("host_keys") or [],
        "link_bytes_per_s": rate * _MIB if rate else None,
    }


def unreachable(host: str, why: t.Any) -> dict[str, t.Any]:
    """The refusal for a host that the controller cannot ask."""
    return {
        "code": "far_end_unreachable",
        "reason": f"the controller cannot ask {host}: {why}",
        "remedy": f"see that ansible reaches it: ansible {host} -m ansible.builtin.ping",
    }


class _Variables(dict[str, t.Any]):
    """Variables of another host, templated as they are asked for."""

    def __init__(self, other: OtherHost) -> None:
        super().__init__()
        self._other = other

    def get(self, key: str, default: t.Any = None) -> t.Any:
        value = self._other.variable(key)
        return default if value is None else value
