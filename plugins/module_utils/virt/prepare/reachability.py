# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a guest can be reached: its agent answers, or a port of it can be connected to.

from __future__ import annotations

import ipaddress
import socket
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.hooks import HookResult, ask_agent

#: A check that fails is made again after this time, until its own time is over: switches learn slowly where a guest is.
AGAIN_S = 1.0
#: How long one connection may take.
CONNECT_S = 3.0
#: A guest may have so many addresses that nobody would wait for all of them.
MAX_ADDRESSES = 8


class Reachability:
    """Checks whether guests can be reached.

    Args:
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(self, clock: t.Callable[[], float], sleep: t.Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep

    def check(self, hook: Hook, domain: t.Any, timeout_s: float) -> HookResult:
        """Check again and again until the guest can be reached, or the time is over.

        Args:
            hook: the check.
            domain: the guest, where it runs now.
            timeout_s: how long.
        """
        end = self._clock() + timeout_s
        while True:
            try:
                why = _agent(domain) if hook.check == "agent" else _port(hook, domain, end - self._clock())
            except (virt.libvirt.libvirtError, ImportError, KeyError, ValueError) as error:
                why = str(error)
            if why is None:
                return HookResult(True, None, "")
            if self._clock() >= end:
                return HookResult(False, why, "")
            self._sleep(AGAIN_S)


def _agent(domain: t.Any) -> str | None:
    ask_agent(domain, "guest-ping", {})
    return None


def _port(hook: Hook, domain: t.Any, left_s: float) -> str | None:
    """Why no address of the guest can be connected to, or None."""
    addresses = [hook.address] if hook.address else guest_addresses(domain)
    if not addresses:
        return "no address of the guest is known: state it (address), or install qemu-guest-agent in the guest"
    failed = []
    for address in addresses:
        why = _connect(address, hook.port or 0, max(0.1, min(CONNECT_S, left_s)))
        if why is None:
            return None
        failed.append(f"{address}: {why}")
    return "; ".join(failed)


def _connect(address: str, port: int, timeout_s: float) -> str | None:
    try:
        socket.create_connection((address, port), timeout=timeout_s).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def guest_addresses(domain: t.Any) -> list[str]:
    """Addresses of a guest, from its agent, from libvirt's DHCP server, or from the host's neighbours.

    The guest says them itself. What leads to this host, or to a whole network, is left out.
    """
    lib = virt.libvirt
    for source in (
        lib.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
        lib.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        lib.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    ):
        try:
            interfaces = domain.interfaceAddresses(source)
        except lib.libvirtError:
            continue
        found = [str(one.get("addr")) for known in interfaces.values() for one in known.get("addrs") or ()]
        usable = list(filter(_is_usable, dict.fromkeys(found)))
        if usable:
            return usable[:MAX_ADDRESSES]
    return []


def _is_usable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)
