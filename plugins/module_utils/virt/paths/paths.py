# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: tries the paths from this host to others, as this host's libvirtd would use them.

from __future__ import annotations

import contextlib
import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PATH
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities, guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import child_process
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError, connect
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import daemon_environment
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import (
    CHECKS,
    Check,
    Destination,
    PathRequest,
    SourceHost,
    failed,
    version_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.ports import PORT_TIMEOUT_S
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.probe import checks_of_path

#: Added to a destination's time, for what is not the destination's fault.
GRACE_S = 1.0


def paths(request: PathRequest, destinations: t.Sequence[Destination]) -> list[dict[str, t.Any]]:
    """Try the path to each destination, in child processes. Nothing can hold up this process.

    Raises:
        VirtError: this host itself cannot be asked.
    """
    source = _ask_source(request)
    works = [_work(request, source, destination) for destination in destinations]
    timeout_s = request.timeout_s + PORT_TIMEOUT_S + GRACE_S
    ended = child_process.run_all(works, timeout_s=timeout_s, environment=daemon_environment.environment())
    return [_path(request, destination, end) for destination, end in zip(destinations, ended)]


def _ask_source(request: PathRequest) -> SourceHost:
    def work(say: child_process.Say) -> None:
        try:
            with connect(request.uri, read_only=True) as connection:
                say({"source": source_host(connection, check_guests=request.check_guests)})
        except VirtError as error:
            say({"refusal": error.refusal})

    (end,) = child_process.run_all([work], timeout_s=request.timeout_s + GRACE_S)
    for message in end.said:
        if "refusal" in message:
            raise VirtError(message["refusal"])
        found = message["source"]
        return SourceHost(found[0], tuple(found[1]), tuple(found[2]), found[3])
    if end.error:
        raise RuntimeError(end.error)
    raise VirtError(
        refusal(
            "no_answer",
            f"libvirt on this host does not answer within {request.timeout_s:g} s",
            "see journalctl -u libvirtd -u virtqemud, and restart it; guests keep running without it",
        )
    )


def source_host(connection: t.Any, *, check_guests: bool) -> SourceHost:
    """What the checks need to know of this host.

    Args:
        connection: to its libvirtd.
        check_guests: whether to read the CPUs of its guests.
    """
    guests = []
    if check_guests:
        active = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        for xml in each(active, lambda domain: domain.XMLDesc(0)):
            # The snapshot of the host says why one cannot be read, and that it stays.
            with contextlib.suppress(xml_text.XmlTextError):
                if isinstance(xml, str):
                    described = guest_xml.describe(guest_xml.parse(xml))
                    keys = ("name", "uuid", "type", "arch", "machine")
                    guests.append({**{key: described[key] for key in keys}, "cpu": described["cpu"]["xml"]})
    uuid = capabilities.host_uuid(capabilities.parse(connection.getCapabilities()))
    return SourceHost(uuid, version_of(connection.getLibVersion()), version_of(connection.getVersion()), guests)


def _work(request: PathRequest, source: SourceHost, destination: Destination) -> child_process.Work:
    def work(say: child_process.Say) -> None:
        for check in checks_of_path(request, source, destination):
            say(check)

    return work


def _path(request: PathRequest, destination: Destination, end: child_process.Ended) -> dict[str, t.Any]:
    if end.error:
        raise RuntimeError(end.error)
    # Of a check that came twice, the last one counts.
    checks = list({message["check"]["check"]: message["check"] for message in end.said if "check" in message}.values())
    guests = [guest for message in end.said for guest in message.get("guests", [])]
    missing = [name for name in CHECKS if name not in {check["check"] for check in checks}]
    if end.timed_out and missing:
        checks.append(_timeout(missing[0], request, destination))
    checks.sort(key=lambda check: CHECKS.index(check["check"]))
    return {
        "schema": PATH,
        "source": request.source,
        "destination": destination.name,
        "ok": all(check["ok"] for check in checks),
        "checks": checks,
        "guests": guests,
    }


def _timeout(name: str, request: PathRequest, destination: Destination) -> Check:
    return failed(
        name,
        refusal(
            "timeout",
            f"{destination.uri} does not answer within {request.timeout_s:g} s",
            f"try it on {request.source} as root: virsh -c {shlex.quote(destination.uri)} version; usual causes are a "
            "question that ssh asks, a firewall that drops packets, and a slow resolver",
        ),
    )
