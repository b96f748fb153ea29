# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a guest can be reached: its agent answers, or a port of it can be connected to.

from __future__ import annotations

import ipaddress
import socket
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import MOST_OF_ERROR, one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import UnansweredError, within
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.guest_agent import AgentError, ask_agent
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.hooks import HookResult

#: A check that fails is made again after this time, until its own time is over: switches learn slowly where a guest is.
AGAIN_S = 1.0
#: How long one connection may take.
CONNECT_S = 3.0
#: A guest may have so many addresses that nobody would wait for all of them.
MAX_ADDRESSES = 8
#: How long an agent may take to tell addresses. libvirt itself waits without an end.
ADDRESSES_S = 5.0
#: With so many calls that hang, no further agent is asked. libvirtd serves five calls of a connection at a time.
MAX_SILENT = 2


class Reachability:
    """Checks whether guests can be reached.

    Args:
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(self, clock: t.Callable[[], float], sleep: t.Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        #: guests whose agents let a call hang
        self._silent: set[str] = set()

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
                why = _agent(domain) if hook.check == "agent" else self._port(hook, domain, end - self._clock())
            except (virt.libvirt.libvirtError, AgentError) as error:
                why = one_line(error, MOST_OF_ERROR)
            if why is None:
                return HookResult(True, None, "")
            if self._clock() >= end:
                return HookResult(False, why, "")
            self._sleep(AGAIN_S)

    def _port(self, hook: Hook, domain: t.Any, left_s: float) -> str | None:
        """Why no address of the guest can be connected to, or None."""
        addresses = [hook.address] if hook.address else guest_addresses(domain, self._silent)
        if not addresses:
            return "no address of the guest is known: state it (address), or install qemu-guest-agent in the guest"
        failed = []
        for address in addresses:
            why = _connect(address, hook.port or 0, max(0.1, min(CONNECT_S, left_s)))
            if why is None:
                return None
            failed.append(f"{address}: {why}")
        return "; ".join(failed)


def _agent(domain: t.Any) -> str | None:
    ask_agent(domain, "guest-ping", {})
    return None


def _connect(address: str, port: int, timeout_s: float) -> str | None:
    try:
        socket.create_connection((address, port), timeout=timeout_s).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def guest_addresses(domain: t.Any, silent: set[str] | None = None) -> list[str]:
    """Addresses of a guest, from its agent, from libvirt's DHCP server, or from the host's neighbours.

    The guest says them itself. What leads to this host, or to a whole network, is left out.

    Args:
        domain: the guest, where it runs now.
        silent: the UUIDs of guests whose agents have let a call hang. Takes this one if its agent does.
    """
    lib, silent = virt.libvirt, set() if silent is None else silent
    by_agent = lib.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
    for source in (by_agent, lib.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, lib.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP):
        try:
            interfaces = _told_by_agent(domain, silent) if source == by_agent else domain.interfaceAddresses(source)
        except (lib.libvirtError, UnicodeError):
            continue
        usable = list(filter(_is_usable, dict.fromkeys(_addresses_in(interfaces))))
        if usable:
            return usable[:MAX_ADDRESSES]
    return []


def _told_by_agent(domain: t.Any, silent: set[str]) -> t.Any:
    uuid, source = domain.UUIDString(), virt.libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
    if uuid in silent or len(silent) >= MAX_SILENT:
        return {}
    try:
        return within(ADDRESSES_S, lambda: domain.interfaceAddresses(source))
    except UnansweredError:
        silent.add(uuid)
        return {}


def _addresses_in(interfaces: t.Any) -> t.Iterator[str]:
    """The addresses in what libvirt returns. It comes from the guest, so parts may be missing or of any kind."""
    for known in interfaces.values() if isinstance(interfaces, dict) else ():
        told = known.get("addrs") if isinstance(known, dict) else None
        for one in told if isinstance(told, list) else ():
            if isinstance(one, dict) and isinstance(one.get("addr"), str):
                yield one["addr"]


def _is_usable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # An address of IPv4 in the form of IPv6 leads where the plain one leads.
    address = getattr(address, "ipv4_mapped", None) or address
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)
