# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a program that looks at one libvirtd over a read-only connection. It is run as a process of
# its own, here or on the hypervisor, so that a libvirtd that hangs can be left behind. Python 3.9 and the libvirt
# binding are all it may need.

from __future__ import annotations

import json
import sys
import typing as t

#: libvirt's numbers for the states of a domain, which are part of its interface for good.
STATES = ("unknown", "running", "running", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")


def probe(libvirt: t.Any, uri: str, record_uuid: str) -> dict[str, t.Any]:
    """Return what one libvirtd says about its host and its guests.

    Args:
        libvirt: the binding.
        uri: of the libvirtd.
        record_uuid: the libvirt secret whose description is the host's maintenance record.

    Returns:
        C(hostname); C(capabilities) and C(record) (None where nothing is published) as libvirt's XML; of each of the
        C(guests) C(name), C(uuid), C(xml), and C(state) as a word.
    """
    connection = libvirt.openReadOnly(uri)
    try:
        return {
            "hostname": connection.getHostname(),
            "capabilities": connection.getCapabilities(),
            "record": _record(libvirt, connection, record_uuid),
            "guests": [guest for guest in map(_guest(libvirt), connection.listAllDomains(0)) if guest],
        }
    finally:
        connection.close()


def _record(libvirt: t.Any, connection: t.Any, record_uuid: str) -> str | None:
    try:
        return t.cast("str | None", connection.secretLookupByUUIDString(record_uuid).XMLDesc(0))
    except libvirt.libvirtError:
        # None is published, or this libvirt has no driver for it: then the host's own file is all there is.
        return None


def _guest(libvirt: t.Any) -> t.Callable[[t.Any], dict[str, str] | None]:
    def described(domain: t.Any) -> dict[str, str] | None:
        try:
            number = domain.state(0)[0]
            return {
                "name": domain.name(),
                "uuid": domain.UUIDString(),
                "xml": domain.XMLDesc(0),
                "state": STATES[number] if number < len(STATES) else "unknown",
            }
        except libvirt.libvirtError:
            # It ended, or left, while it was looked at.
            return None

    return described


def main(uri: str, record_uuid: str) -> None:
    """Look, and write what was seen as JSON; what went wrong as C(error)."""
    try:
        import libvirt
    except ImportError as error:
        answer: dict[str, t.Any] = {"error": f"{sys.executable} has no libvirt binding ({error})"}
    else:
        # libvirt would write each error to the terminal too.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        try:
            answer = probe(libvirt, uri, record_uuid)
        except libvirt.libvirtError as error:
            answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
