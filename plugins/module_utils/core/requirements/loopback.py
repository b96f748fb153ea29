# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Names and addresses that mean the host itself, on each host another one."""

from __future__ import annotations

import ipaddress
import socket

_NAMES = frozenset(("localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6"))
#: Debian's names of ::1.
_NAMES_OF_DEBIAN = frozenset(("ip6-localhost", "ip6-loopback"))


def is_loopback(name: str) -> bool:
    """Whether it leads to the host itself.

    >>> is_loopback("127.1"), is_loopback("::ffff:127.0.0.1"), is_loopback("LocalHost."), is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    plain = name.strip("[]").rstrip(".").lower()
    if plain in _NAMES or plain in _NAMES_OF_DEBIAN or plain.endswith(".localhost"):
        return True
    found = _address(plain)
    if found is None:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback or (mapped is not None and mapped.is_loopback)


def is_unspecified(name: str) -> bool:
    """Whether it is 0.0.0.0 or ::, which who connects to it takes for the host itself."""
    found = _address(name.strip("[]"))
    return found is not None and found.is_unspecified


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        # Programs take short spellings of an IPv4 address as well, and those with other bases.
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None
