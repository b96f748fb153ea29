# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What sshd starts for another host, in the place of virt-ssh-helper: libvirt's protocol, and of that only some calls.

Whoever may migrate a guest may also let libvirtd open an address of their choice, which can start a program as root
(libvirt.org/uri.html, "command"), and libvirt's own rights do not tell the two apart. So the calls are read here, and
only those go on to libvirtd that it takes to look at this host and to let a guest come in. A call is a frame: its
length, six numbers (program, version, procedure, type, serial, status), and its arguments. The numbers are part of
libvirt's protocol for good (src/remote/remote_protocol.x).
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import sys

SOCKET = "/run/libvirt/libvirt-sock"
REMOTE, KEEPALIVE = 0x20008086, 0x6B656570
CALL, REPLY, ERROR = 0, 1, 1
HEADER = struct.Struct("!6I")
#: libvirt's own limit, VIR_NET_MESSAGE_MAX.
MOST_BYTES = 32 * 1024 * 1024
#: VIR_ERR_ACCESS_DENIED, VIR_FROM_RPC, VIR_ERR_ERROR.
ACCESS_DENIED, FROM_RPC, LEVEL = 88, 7, 2
CHUNK = 65536

#: The calls that go on, by number. What is not named is refused, in libvirt's own words for that.
PERMITTED = {
    # The connection
    1: "connect_open",
    2: "connect_close",
    3: "connect_get_type",
    4: "connect_get_version",
    59: "connect_get_hostname",
    60: "connect_supports_feature",
    66: "auth_list",
    70: "auth_polkit",
    110: "connect_get_uri",
    149: "connect_is_secure",
    157: "connect_get_lib_version",
    360: "connect_register_close_callback",
    361: "connect_unregister_close_callback",
    # The host
    6: "node_get_info",
    7: "connect_get_capabilities",
    101: "node_get_cells_free_memory",
    102: "node_get_free_memory",
    228: "node_get_memory_stats",
    340: "node_get_free_pages",
    393: "connect_compare_hypervisor_cpu",
    # Guests
    14: "domain_get_xml_desc",
    15: "domain_get_autostart",
    16: "domain_get_info",
    17: "domain_get_max_memory",
    22: "domain_lookup_by_id",
    23: "domain_lookup_by_name",
    24: "domain_lookup_by_uuid",
    29: "domain_set_autostart",
    150: "domain_is_active",
    151: "domain_is_persistent",
    159: "domain_memory_stats",
    163: "domain_get_job_info",
    212: "domain_get_state",
    229: "domain_get_control_info",
    238: "domain_get_block_job_info",
    263: "domain_get_disk_errors",
    273: "connect_list_all_domains",
    298: "domain_get_job_stats",
    344: "connect_get_all_domain_stats",
    # Events
    316: "connect_domain_event_callback_register_any",
    317: "connect_domain_event_callback_deregister_any",
    # Storage, networks, the maintenance record
    43: "network_get_xml_desc",
    46: "network_lookup_by_name",
    83: "storage_pool_refresh",
    84: "storage_pool_lookup_by_name",
    87: "storage_pool_get_info",
    88: "storage_pool_get_xml_desc",
    95: "storage_vol_lookup_by_name",
    97: "storage_vol_lookup_by_path",
    98: "storage_vol_get_info",
    99: "storage_vol_get_xml_desc",
    141: "secret_lookup_by_uuid",
    143: "secret_get_xml_desc",
    152: "network_is_active",
    154: "storage_pool_is_active",
    281: "connect_list_all_storage_pools",
    282: "storage_pool_list_all_volumes",
    283: "connect_list_all_networks",
    # A guest comes in
    303: "domain_migrate_prepare3_params",
    306: "domain_migrate_finish3_params",
}


class ProtocolError(Exception):
    """What came is not libvirt's protocol."""


def frames(data: bytearray) -> list[bytes]:
    """Take the whole frames off the beginning of what has come.

    Raises:
        ProtocolError: a length that libvirt does not send.
    """
    found: list[bytes] = []
    while len(data) >= 4:
        (length,) = struct.unpack_from("!I", data)
        if not 4 + HEADER.size <= length <= MOST_BYTES:
            raise ProtocolError(f"a frame of {length} bytes")
        if len(data) < length:
            break
        found.append(bytes(data[:length]))
        del data[:length]
    return found


def refusal(frame: bytes) -> bytes | None:
    """The answer to a frame that does not go on; None for one that does.

    Raises:
        ProtocolError: it is no call, so nobody waits for an answer.
    """
    program, version, procedure, kind, serial, dummy = HEADER.unpack_from(frame, 4)
    if program == KEEPALIVE:
        return None
    if kind != CALL:
        raise ProtocolError(f"a frame of type {kind}")
    if program == REMOTE and procedure in PERMITTED:
        return None
    text = f"this host does not take call {procedure} of program {program:#x} from another host".encode()
    head = HEADER.pack(program, version, procedure, REPLY, serial, ERROR)
    body = struct.pack("!iiI", ACCESS_DENIED, FROM_RPC, 1) + _string(text)
    # No domain, no further texts, two numbers, no network.
    body += struct.pack("!iIIIIiiI", LEVEL, 0, 0, 0, 0, 0, 0, 0)
    return struct.pack("!I", 4 + len(head) + len(body)) + head + body


def _string(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text + bytes(-len(text) % 4)


def serve(take: int, give: int, daemon: socket.socket) -> None:
    """Carry frames between a peer and libvirtd until one of them ends.

    Args:
        take, give: descriptors from and to the peer.
        daemon: the connection to libvirtd.
    """
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(take, selectors.EVENT_READ)
        selector.register(daemon, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is daemon:
                    came = daemon.recv(CHUNK)
                    _write(give, came)
                else:
                    came = os.read(take, CHUNK)
                    data += came
                    for frame in frames(data):
                        answer = refusal(frame)
                        if answer is None:
                            daemon.sendall(frame)
                        else:
                            _write(give, answer)
                if not came:
                    return


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> int:
    """Serve the peer at the standard input and output."""
    with socket.socket(socket.AF_UNIX) as daemon:
        try:
            daemon.connect(SOCKET)
            serve(sys.stdin.fileno(), sys.stdout.fileno(), daemon)
        except (OSError, ProtocolError) as error:
            sys.stderr.write(f"peer_calls: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
