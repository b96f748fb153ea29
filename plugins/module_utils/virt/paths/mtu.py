# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether packets as large as both ends take reach a destination in one piece.

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import Check, Destination, failed, passed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.target import Target, resolved

#: How long an answer to one packet may take, and how many packets of a size are sent.
ANSWER_S, TRIES = 0.5, 2
#: What every path carries (RFC 791, RFC 8200).
SMALL_BYTES = 576
#: Bytes of the header of IP, by family. That of ICMP has 8.
_IP_HEADER: dict[int, int] = {socket.AF_INET: 20, socket.AF_INET6: 40}
_ICMP_HEADER = 8
#: ICMP echo requests, by family: type of the request, type of the answer.
_ECHO: dict[int, tuple[int, int]] = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
#: linux/in.h and linux/in6.h, which the module socket does not have: the option, and the value "never in pieces".
_DISCOVER: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 10),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23),
}
_ALWAYS_WHOLE = 2
#: The same for "the MTU of the route of a connected socket".
_MTU: dict[int, tuple[int, int]] = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}


def check_mtu(source: str, destination: Destination, target: Target) -> Check:
    """Whether the largest packets that both ends take get through.

    Args:
        source: this host's name.
        destination: the other host, with the MTU of its interface if that is known.
        target: where guests are sent.
    """
    found, why = resolved(target, source, destination)
    if why:
        return passed("mtu", "not_tried", "the address must be right first")
    family, address = found[0][0], found[0][4][0]
    here, there = mtu_towards(family, address), destination.mtu
    if here is None:
        return passed("mtu", "not_tried", f"the route to {target.name} is not known")
    size = min(here, there or here)
    if arrives(family, address, size):
        return _both_ends(source, destination, here, there)
    if not arrives(family, address, SMALL_BYTES):
        return passed("mtu", "no_answer", f"{target.name} does not answer to ICMP, so large packets were not tried")
    why = refusal(
        "mtu",
        f"packets of {size} bytes from {source} do not reach {target.name}, but small ones do: a migration would stand "
        "still",
        f"let everything between {source} and {destination.name} carry packets of {size} bytes (switches, VLANs, "
        "tunnels), or lower the MTU of both interfaces to what it carries",
    )
    # Without the MTU of the other end, TCP may agree on smaller packets.
    return failed("mtu", why) if there else {"check": "mtu", "ok": True, **why}


def _both_ends(source: str, destination: Destination, here: int, there: int | None) -> Check:
    if there is None or here == there:
        return passed("mtu", "fits", f"packets of {here} bytes get through in one piece")
    note = refusal(
        "mtu_differs",
        f"the migration network has an MTU of {here} on {source} and {there} on {destination.name}",
        "set the same MTU on both, or TCP uses the smaller one",
    )
    return {"check": "mtu", "ok": True, **note}


def mtu_towards(family: int, address: str) -> int | None:
    """The largest packet that this host would send to an address; None if it cannot be told."""
    level, option = _MTU[family]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: a datagram socket only looks for the route.
            probe.connect((address, 9))
            return probe.getsockopt(level, option)
    except OSError:
        return None


def arrives(family: int, address: str, size: int) -> bool | None:
    """Whether a packet of this size in bytes reaches an address in one piece, and is answered; None if it cannot be
    tried.
    """
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    try:
        probe = socket.socket(family, socket.SOCK_RAW, protocol)
    except OSError:
        return None
    with probe:
        probe.setsockopt(*_DISCOVER[family], _ALWAYS_WHOLE)
        for sequence in range(1, TRIES + 1):
            packet = _request(family, sequence, size - _IP_HEADER[family])
            try:
                probe.sendto(packet, (address, 0))
            except OSError as error:
                # A router has said before that this is too large.
                if error.errno != errno.EMSGSIZE:
                    return None
                return False
            if _is_answered(probe, family, address, sequence):
                return True
    return False


def _request(family: int, sequence: int, size: int) -> bytes:
    """An ICMP echo request of so many bytes."""
    data = bytes(max(0, size - _ICMP_HEADER))
    header = struct.pack("!BBHHH", _ECHO[family][0], 0, 0, _identifier(), sequence)
    # Linux computes the checksum of ICMPv6.
    checksum = _checksum(header + data) if family == socket.AF_INET else 0
    return struct.pack("!BBHHH", _ECHO[family][0], 0, checksum, _identifier(), sequence) + data


def _is_answered(probe: socket.socket, family: int, address: str, sequence: int) -> bool:
    deadline = time.monotonic() + ANSWER_S
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([probe], [], [], left)[0]:
            return False
        packet, sender = probe.recvfrom(65535)
        # Over IPv4 a raw socket gives the header of IP as well.
        start = (packet[0] & 15) * 4 if family == socket.AF_INET and packet else 0
        if sender[0].partition("%")[0] != address.partition("%")[0] or len(packet) < start + _ICMP_HEADER:
            continue
        kind, dummy, dummy, identifier, number = struct.unpack_from("!BBHHH", packet, start)
        if (kind, identifier, number) == (_ECHO[family][1], _identifier(), sequence):
            return True


def _identifier() -> int:
    return os.getpid() & 0xFFFF


def _checksum(data: bytes) -> int:
    """The checksum of the internet (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
