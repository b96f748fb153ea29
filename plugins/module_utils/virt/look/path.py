# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the ways from this host to others, tried as this host's libvirtd would go them.

from __future__ import annotations

import datetime
import errno
import os
import select
import shlex
import socket
import time
import typing as t
import urllib.parse
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PATH
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    capabilities,
    guest_xml,
    host_files,
    known_bugs,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import child_process
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError, connect
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import certificates, daemon_environment

CHECKS = ("connect", "identity", "versions", "encryption", "ports", "cpu")
#: libvirt takes the ports of migrations from this range, lowest first (migration_port_min and _max in qemu.conf).
FIRST_PORT, LAST_PORT = 49152, 49215
#: A firewall that drops takes this long to be told from a slow network.
PORT_TIMEOUT_S = 2.5
#: Added to a destination's time, for what is not the destination's fault.
GRACE_S = 1.0


class Destination(t.NamedTuple):
    name: str
    uri: str
    address: str | None


class Wanted(t.NamedTuple):
    """What the paths are needed for."""

    source: str
    uri: str
    encryption: str
    timeout_s: float
    check_guests: bool
    #: libvirt compares CPUs only for connections that could also write
    read_only: bool


class Source(t.NamedTuple):
    """What the checks need to know of this host; plain, so that a child process can be given it."""

    host_uuid: str | None
    libvirt: tuple[int, ...]
    qemu: tuple[int, ...]
    #: name, uuid, type, arch, machine and the XML of the CPU, of each guest that runs
    guests: list[dict[str, t.Any]]


class Check(t.TypedDict):
    check: str
    ok: bool
    code: str
    reason: str
    remedy: str | None


def paths(wanted: Wanted, destinations: t.Sequence[Destination]) -> list[dict[str, t.Any]]:
    """Try the way to each destination. This process itself opens no connection, and nothing can hold it up.

    Raises:
        VirtError: this host itself cannot be asked.
    """
    if os.geteuid() != 0:
        raise VirtError(
            refusal("not_root", "only root can try what libvirtd does as root", "run as root (become: true)")
        )
    source = _source(wanted)
    works = [_work(wanted, source, destination) for destination in destinations]
    timeout_s = wanted.timeout_s + PORT_TIMEOUT_S + GRACE_S
    ended = child_process.run_all(works, timeout_s=timeout_s, environment=daemon_environment.environment())
    return [_path(wanted, destination, end) for destination, end in zip(destinations, ended)]


def _source(wanted: Wanted) -> Source:
    def work(say: child_process.Say) -> None:
        try:
            with connect(wanted.uri, read_only=True) as connection:
                say({"source": look_at_source(connection, check_guests=wanted.check_guests)})
        except VirtError as error:
            say({"refusal": error.refusal})

    (end,) = child_process.run_all([work], timeout_s=wanted.timeout_s + GRACE_S)
    for message in end.said:
        if "refusal" in message:
            raise VirtError(message["refusal"])
        found = message["source"]
        return Source(found[0], tuple(found[1]), tuple(found[2]), found[3])
    if end.error:
        raise RuntimeError(end.error)
    raise VirtError(
        refusal(
            "no_answer",
            f"libvirt on this host does not answer within {wanted.timeout_s:g} s",
            "see journalctl -u libvirtd -u virtqemud, and restart it; guests go on without it",
        )
    )


def look_at_source(connection: t.Any, *, check_guests: bool) -> Source:
    guests = []
    if check_guests:
        active = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        for xml in each(active, lambda domain: domain.XMLDesc(0)):
            if isinstance(xml, str):
                described = guest_xml.described(guest_xml.parse(xml))
                keys = ("name", "uuid", "type", "arch", "machine")
                guests.append({**{key: described[key] for key in keys}, "cpu": described["cpu"]["xml"]})
    uuid = capabilities.host_uuid(capabilities.parse(connection.getCapabilities()))
    return Source(uuid, _version(connection.getLibVersion()), _version(connection.getVersion()), guests)


def _work(wanted: Wanted, source: Source, destination: Destination) -> child_process.Work:
    def work(say: child_process.Say) -> None:
        for check in Probe(wanted, source, destination).checks():
            say(check)

    return work


def _path(wanted: Wanted, destination: Destination, end: child_process.Ended) -> dict[str, t.Any]:
    if end.error:
        raise RuntimeError(end.error)
    # A check that was told twice was overtaken by its failure.
    checks = list({message["check"]["check"]: message["check"] for message in end.said if "check" in message}.values())
    guests = [guest for message in end.said for guest in message.get("guests", [])]
    missing = [name for name in CHECKS if name not in {check["check"] for check in checks}]
    if end.timed_out and missing:
        checks.append(_timeout(missing[0], wanted, destination))
    checks.sort(key=lambda check: CHECKS.index(check["check"]))
    return {
        "schema": PATH,
        "source": wanted.source,
        "destination": destination.name,
        "ok": all(check["ok"] for check in checks),
        "checks": checks,
        "guests": guests,
    }


def _timeout(name: str, wanted: Wanted, destination: Destination) -> Check:
    return _failed(
        name,
        refusal(
            "timeout",
            f"{destination.uri} does not answer within {wanted.timeout_s:g} s",
            f"try it on {wanted.source} as root: virsh -c {shlex.quote(destination.uri)} version; a question that ssh "
            "asks there, a firewall that drops, or a slow resolver are the usual causes",
        ),
    )


class Probe:
    """The checks of one path, in the child process. Each yields ``{"check": ..., "guests": [...]}``."""

    def __init__(self, wanted: Wanted, source: Source, destination: Destination, root: Path = Path("/")) -> None:
        self._wanted = wanted
        self._source = source
        self._destination = destination
        self._root = root

    def checks(self) -> t.Iterator[dict[str, t.Any]]:
        # Those that need no connection first: they are told even if the connection hangs.
        yield {"check": self._encryption()}
        highest_port = self._ports(busy=True)
        yield {"check": highest_port}
        read_only = self._wanted.read_only or not self._source.guests
        started = time.monotonic()
        try:
            with connect(self._destination.uri, read_only=read_only) as connection:
                yield {"check": self._connected(connection, time.monotonic() - started)}
                yield {"check": self._identity(connection)}
                yield {"check": self._versions(connection)}
                if highest_port["ok"]:
                    yield {"check": self._ports(busy=self._busy(connection))}
                yield self._cpu(connection)
        except VirtError as error:
            yield {"check": _failed("connect", error.refusal)}
        except virt.libvirt.libvirtError as error:
            yield {"check": _failed("connect", self._broke_off(error))}

    def _connected(self, connection: t.Any, seconds: float) -> Check:
        connection.getHostname()
        return _passed("connect", "connected", f"{self._destination.uri} answers in {seconds * 1000:.0f} ms")

    def _broke_off(self, error: t.Any) -> Refusal:
        return refusal(
            "connection_lost",
            f"{self._destination.uri} broke off while it was asked: {error}",
            f"see journalctl -u libvirtd -u virtqemud on {self._destination.name}",
        )

    def _identity(self, connection: t.Any) -> Check:
        uuid = capabilities.host_uuid(capabilities.parse(connection.getCapabilities()))
        if uuid != self._source.host_uuid:
            return _passed("identity", "another_host", f"{self._destination.name} is another host ({uuid})")
        return _failed(
            "identity",
            refusal(
                "same_host",
                f"{self._destination.uri} leads to this host, or to one with the same UUID ({uuid})",
                f"look at the URI of {self._destination.name}; if it is another machine, give each libvirtd its own "
                "host_uuid in /etc/libvirt/libvirtd.conf (virtqemud.conf) and restart it",
            ),
        )

    def _versions(self, connection: t.Any) -> Check:
        libvirt, qemu = _version(connection.getLibVersion()), _version(connection.getVersion())
        name = self._destination.name
        old = known_bugs.too_old(name, libvirt)
        if old:
            return _failed("versions", old)
        here = (self._source.libvirt, self._source.qemu)
        note = known_bugs.between(self._wanted.source, here, name, (libvirt, qemu))
        if note:
            # Worth knowing, but no reason to forbid the path: most guests can go.
            return {"check": "versions", "ok": True, **note}
        shown = f"libvirt {_shown(libvirt)}, QEMU {_shown(qemu)} on {name}"
        return _passed("versions", "fit", shown)

    def _encryption(self) -> Check:
        if self._wanted.encryption == "off":
            return _passed("encryption", "off", "not asked for")
        uri = self._destination.uri
        if _transport(uri) == "tcp":
            return _failed(
                "encryption",
                refusal(
                    "control_unencrypted",
                    f"{uri} is not encrypted: everything libvirt says to the other host would be readable",
                    "use qemu+ssh:// or qemu+tls://, or permit encryption: off",
                ),
            )
        settings = host_files.qemu_conf(self._text("etc/libvirt/qemu.conf"))
        user = settings.get("user")
        now = datetime.datetime.now(datetime.timezone.utc)
        verdict = certificates.verdict(settings, user if isinstance(user, str) else "root", now, self._root)
        if verdict["usable"] is not False:
            return _passed("encryption", "ready", f"{self._wanted.source} can encrypt a guest's memory")
        return _failed(
            "encryption",
            refusal(
                "no_certificates",
                f"{self._wanted.source} cannot encrypt a guest's memory: {verdict['reason']}",
                f"{verdict['remedy']}, or permit encryption: off",
            ),
        )

    def _busy(self, connection: t.Any) -> bool:
        """Does a guest come in there just now? Its port must not be touched: QEMU takes one connection only."""
        paused = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED)
        return bool(paused)

    def _ports(self, *, busy: bool) -> Check:
        address = self._destination.address or urllib.parse.urlsplit(self._destination.uri).hostname or ""
        # The lowest ports are those in use while a guest comes in; the highest never is in practice.
        wanted = [LAST_PORT] if busy else [FIRST_PORT, FIRST_PORT + 1, LAST_PORT]
        try:
            answers = knock(address, wanted, PORT_TIMEOUT_S)
        except OSError as error:
            return _failed(
                "ports",
                refusal(
                    "address_unknown",
                    f"{address} cannot be looked up on {self._wanted.source}: {error.strerror or error}",
                    f"give the migration_address of {self._destination.name} as an IP address, or make the name "
                    "resolvable",
                ),
            )
        silent = [port for port, answer in answers.items() if answer is not None]
        if not silent:
            return _passed("ports", "reachable", f"{address} answers on port {listed([str(p) for p in wanted])}")
        why = answers[silent[0]]
        return _failed(
            "ports",
            refusal(
                "ports_filtered" if why == "no answer" else "address_unreachable",
                f"{why} from {address} port {listed([str(port) for port in silent])}",
                f"open TCP {FIRST_PORT}-{LAST_PORT} from {self._wanted.source} to {address}"
                if why == "no answer"
                else f"look at the route from {self._wanted.source} to {address}",
            ),
        )

    def _cpu(self, connection: t.Any) -> dict[str, t.Any]:
        guests = [guest for guest in self._source.guests if guest["cpu"] and "<model" in guest["cpu"]]
        name = self._destination.name
        if not guests:
            return {"check": _passed("cpu", "nothing_to_ask", "no guest here has a CPU that needs asking")}
        if self._wanted.read_only:
            return {"check": _passed("cpu", "not_asked", "libvirt compares no CPUs for read-only connections")}
        verdicts: dict[tuple[str, ...], Refusal | None] = {}
        refused = []
        for guest in guests:
            key = tuple(str(guest[part]) for part in ("arch", "machine", "type", "cpu"))
            if key not in verdicts:
                verdicts[key] = self._compare(connection, *key)
            why = verdicts[key]
            if why:
                refused.append({"name": guest["name"], "uuid": guest["uuid"], "refusals": [why]})
        asked = len(verdicts)
        if not refused:
            them = "the guest here" if len(guests) == 1 else f"all {len(guests)} guests here ({asked} asked)"
            return {"check": _passed("cpu", "fits", f"{name} can be the CPU of {them}")}
        names = listed([guest["name"] for guest in refused])
        # The others can go: this stands against these guests only.
        return {
            "check": _passed(
                "cpu", "some_refused", f"{name} cannot run {names}: {refused[0]['refusals'][0]['reason']}"
            ),
            "guests": refused,
        }

    def _compare(self, connection: t.Any, arch: str, machine: str, kind: str, cpu: str) -> Refusal | None:
        lib = virt.libvirt
        name = self._destination.name
        text = "it is incompatible with the host's CPU"
        try:
            # The emulator is the destination's own: its path may differ there.
            answer = connection.compareHypervisorCPU(
                None, arch, machine, kind, cpu, lib.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
            )
            if answer != lib.VIR_CPU_COMPARE_INCOMPATIBLE:
                return None
        except lib.libvirtError as error:
            code, text = error.get_error_code(), str(error)
            if code == lib.VIR_ERR_NO_SUPPORT:
                return None
            if code in (lib.VIR_ERR_RPC, lib.VIR_ERR_SYSTEM_ERROR) or not connection.isAlive():
                raise
            if code != lib.VIR_ERR_CPU_INCOMPATIBLE and "machine" in text.lower():
                return refusal(
                    "machine_type",
                    f"{name} does not know the machine type {machine}: {text}",
                    f"upgrade QEMU on {name}, or choose another host",
                )
        return refusal(
            "cpu",
            f"{name} cannot be the CPU of this guest: {text}",
            "choose a host with such a CPU, or restart the guest with a CPU model that all hosts can be (virsh "
            "hypervisor-cpu-baseline)",
        )

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def knock(address: str, ports: t.Sequence[int], timeout_s: float) -> dict[int, str | None]:
    """Try to connect to all ports at once.

    Returns: for each port None if the host answers (a port where nobody listens answers too), or what is wrong.

    Raises:
        OSError: the address cannot be resolved.
    """
    family, _kind, _protocol, _name, where = socket.getaddrinfo(address, ports[0], type=socket.SOCK_STREAM)[0]
    answers: dict[int, str | None] = dict.fromkeys(ports, "no answer")
    waiting: dict[socket.socket, int] = {}
    for port in ports:
        knocking = socket.socket(family, socket.SOCK_STREAM)
        knocking.setblocking(False)
        waiting[knocking] = port
        answers[port] = _meaning(knocking.connect_ex((where[0], port, *where[2:])))
    deadline = time.monotonic() + timeout_s
    pending = {knocking for knocking, port in waiting.items() if answers[port] == "no answer"}
    while pending and time.monotonic() < deadline:
        _readable, ready, _broken = select.select([], list(pending), [], max(0.0, deadline - time.monotonic()))
        for knocking in ready:
            answers[waiting[knocking]] = _meaning(knocking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            pending.discard(knocking)
    for knocking in waiting:
        knocking.close()
    return answers


def _meaning(number: int) -> str | None:
    if number in (0, errno.ECONNREFUSED):
        return None
    if number in (errno.EINPROGRESS, errno.EAGAIN, errno.ETIMEDOUT):
        return "no answer"
    return os.strerror(number).lower()


def _transport(uri: str) -> str:
    """
    >>> _transport("qemu+ssh://h2/system"), _transport("qemu://h2/system")
    ('ssh', 'tls')
    """
    scheme = urllib.parse.urlsplit(uri).scheme
    return scheme.partition("+")[2] or "tls"


def _passed(check: str, code: str, reason: str) -> Check:
    return {"check": check, "ok": True, "code": code, "reason": reason, "remedy": None}


def _failed(check: str, why: Refusal) -> Check:
    return {"check": check, "ok": False, "code": why["code"], "reason": why["reason"], "remedy": why["remedy"]}


def _version(number: int) -> tuple[int, ...]:
    return number // 1000000, number // 1000 % 1000, number % 1000


def _shown(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
