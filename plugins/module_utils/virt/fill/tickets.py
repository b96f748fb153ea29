# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the far end's side of exports from one source: a key of its own, and the service that
# forwards QEMU's connections there.

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape, xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import lazy_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import forward_program, programs

#: The disks that can be open from one source at a time.
SLOTS = 64
#: A ticket with which no guest came is removed after so long.
UNUSED_S = 24 * 3600
#: How long the forwarder may take to open its sockets.
START_S = 15.0
#: The source answers a look at once, or ssh says why not. Its own time limits end it.
LOOK_S = 60.0
#: The status with which ssh itself ends.
SSH_FAILED = 255
_TICKET = re.compile(r"[A-Za-z0-9-]{8,64}")
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:%-]{0,254}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._@-]{0,63}\$?")
_HOST_KEY = re.compile(r"[a-z0-9@.-]{3,60} [A-Za-z0-9+/]{40,2000}={0,2}")

Ticket = dict[str, t.Any]


_TICKET_FILE = shape.mapping(
    {
        **dict.fromkeys(("ticket", "source", "address", "user", "sockets"), shape.text()),
        "port": shape.whole(1),
        "slots": shape.whole(1),
        "owner": shape.whole(0),
    },
    {"made_at": shape.whole(0), "far_end": shape.text(), "public_key": shape.text()},
    others=True,
)
#: What a source says of its disks.
_LOOKED = shape.list_of(
    shape.mapping(
        {
            "guest": shape.mapping({"uuid": shape.text()}, {"name": shape.text()}, others=True),
            "slot": shape.whole(0),
            "target": shape.text(),
            "size_bytes": shape.whole(0),
            "changed": shape.or_null(shape.text()),
        },
        {"image": shape.or_null(shape.text())},
        others=True,
    )
)


class Offer(t.NamedTuple):
    """How a source is reached.

    Attributes:
        name: in the inventory, for messages.
        address, port, user: of its sshd.
        host_keys: the public keys of its sshd, each C(type base64).
    """

    name: str
    address: str
    port: int
    user: str
    host_keys: tuple[str, ...]


def offer_of(document: t.Mapping[str, t.Any]) -> Offer:
    """An offer that a source made.

    Raises: CapsuleError for what is none.
    """
    try:
        offer = Offer(
            str(document["name"]),
            str(document["address"]),
            int(document["port"]),
            str(document["user"]),
            tuple(map(str, document["host_keys"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_offer(f"it lacks {error}") from error
    if not _ADDRESS.fullmatch(offer.address) or not _USER.fullmatch(offer.user) or not 0 < offer.port < 65536:
        raise _bad_offer(f"{offer.user[:40]!r} at {offer.address[:60]!r}, port {offer.port}, is not possible")
    if not offer.host_keys or not all(_HOST_KEY.fullmatch(key) for key in offer.host_keys):
        raise _bad_offer("its host keys are none")
    return offer


def _bad_offer(why: str) -> CapsuleError:
    return CapsuleError(
        "bad_offer",
        f"the offer of the source makes no sense: {why}",
        "give what the module capsule_export returned as offer on the source",
    )


class Tickets:
    """The tickets of this host, which is the far end.

    Args:
        store: the host's.
        sleep: waits so many seconds.
    """

    def __init__(self, store: CapsuleStore, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._sleep = sleep

    def accept(self, offer: Offer, owner: int, far_end: str) -> Ticket:
        """Make a ticket for a source and start its forwarder; returns the ticket, with its C(public_key).

        Args:
            offer: the source's.
            owner: the user id of QEMU.
            far_end: this host's name.

        Raises: CapsuleError.
        """
        self._store.prepare()
        durable_files.make_directory(self._folder(""))
        ticket = f"fill-{secrets.token_hex(8)}"
        folder = self._folder(ticket)
        durable_files.make_directory(folder)
        public_key = _make_key(os.path.join(folder, "key"))
        known_hosts = "".join(f"{ticket} {key}\n" for key in offer.host_keys)
        durable_files.write_bytes(os.path.join(folder, "known_hosts"), [known_hosts.encode()])
        document: Ticket = {
            "schema": "kvmops.fill_ticket/1",
            "made_at": int(time.time()),
            "ticket": ticket,
            "source": offer.name,
            "far_end": far_end,
            "address": offer.address,
            "port": offer.port,
            "user": offer.user,
            "sockets": os.path.dirname(lazy_disks.socket_of(ticket, 0)),
            "slots": SLOTS,
            "owner": owner,
            "public_key": public_key,
        }
        durable_files.write_json(os.path.join(folder, "ticket.json"), document)
        self.ensure(ticket)
        return document

    def read(self, ticket: str) -> Ticket:
        """A ticket of this host.

        Raises: CapsuleError when there is none of that name.
        """
        path = os.path.join(self._folder(ticket), "ticket.json")
        found = durable_files.read_json(path)
        if found is None:
            raise CapsuleError(
                "no_ticket",
                f"there is no ticket {ticket} in {self._store.directory}, with which this host reads from the source",
                "see whether capsule_dir is the one that was used when the guest came here",
            )
        try:
            _TICKET_FILE(found, "")
        except shape.ShapeError as error:
            raise durable_files.damaged(path, str(error)) from error
        return t.cast(Ticket, found)

    def ensure(self, ticket: str) -> bool:
        """Make sure that the forwarder of a ticket is at work; returns whether it had to be started.

        Raises: CapsuleError when it does not start.
        """
        document = self.read(ticket)
        if self._is_at_work(document):
            return False
        program = programs.installed(self._store, forward_program)
        unit = _unit(ticket)
        _make_passable(lazy_disks.SOCKETS)
        for verb in ("stop", "reset-failed"):
            _run(["systemctl", "--quiet", verb, unit])
        # What a dead service has left says nothing of the new one.
        shutil.rmtree(document["sockets"], ignore_errors=True)
        settings = ("Restart=always", "RestartSec=200ms", "StartLimitIntervalSec=0", "SyslogIdentifier=kvmops-fill")
        words = [f"--property={setting}" for setting in settings]
        about = f"Disks of guests that came from {document['source']}"
        command = ["systemd-run", "--quiet", f"--unit={unit}", f"--description={about}", *words]
        started = _run([*command, "/usr/bin/python3", "-I", program, self._folder(ticket)])
        waited = 0.0
        while started.returncode == 0 and waited < START_S:
            if self._is_at_work(document):
                return True
            self._sleep(0.1)
            waited += 0.1
        raise CapsuleError(
            "forwarder_not_started",
            f"the service {unit}, which reads disks from {document['source']}, does not start "
            f"({started.stderr.strip() or 'it opens no socket'})",
            f"see why: journalctl -u {unit}",
        )

    def _is_at_work(self, document: Ticket) -> bool:
        if _run(["systemctl", "--quiet", "is-active", _unit(document["ticket"])]).returncode:
            return False
        return os.path.exists(f"{document['sockets']}/{document['slots'] - 1}")

    def ask(self, ticket: str, request: str) -> str:
        """Ask the source for something; returns what it says.

        Raises: CapsuleError with what ssh or the source says otherwise.
        """
        document = self.read(ticket)
        command = forward_program.ssh_command(document, self._folder(ticket), request)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=LOOK_S
            )
        except subprocess.TimeoutExpired as error:
            raise _no_answer(document, "it does not answer") from error
        if done.returncode:
            raise _no_answer(document, done.stderr.strip()[-300:] or f"ssh ended with status {done.returncode}")
        return done.stdout

    def fetch(self, ticket: str, request: str) -> bytes:
        """Bytes that the source has, however long they take; a cut ends it.

        Raises: CapsuleError with what ssh or the source says otherwise.
        """
        document = self.read(ticket)
        command = forward_program.ssh_command(document, self._folder(ticket), request)
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode == SSH_FAILED:
            raise _no_answer(document, _last_words(done.stderr, done.returncode))
        if done.returncode:
            raise CapsuleError(
                "export_refused",
                f"{document['source']} does not give that: {_last_words(done.stderr, done.returncode)}",
                "let it export the disks again (capsule_export with ticket and guest), then run it again",
            )
        return done.stdout

    def look(self, ticket: str) -> list[dict[str, t.Any]]:
        """What the source says of each disk: C(guest), C(slot), C(target), C(size_bytes) and C(changed)."""
        try:
            found = json_text.parsed(self.ask(ticket, "look"))
            _LOOKED(found, "its answer")
        except ValueError as error:
            raise _no_answer(self.read(ticket), f"its answer cannot be read: {error}") from error
        return t.cast("list[dict[str, t.Any]]", found)

    def sweep(self, in_use: t.Callable[[str], bool]) -> None:
        """Remove tickets that are old and that no guest uses."""
        for ticket in durable_files.names_in(self._folder("")):
            try:
                made_at = int(self.read(ticket).get("made_at", 0))
            except CapsuleError:
                # Nobody can use it as it is.
                made_at = 0
            if time.time() - made_at > UNUSED_S and not in_use(ticket):
                self.remove(ticket)

    def remove(self, ticket: str) -> None:
        """End the forwarder, and remove all of the ticket that is on this host."""
        unit = _unit(ticket)
        for verb in ("stop", "reset-failed"):
            _run(["systemctl", "--quiet", verb, unit])
        shutil.rmtree(os.path.dirname(lazy_disks.socket_of(ticket, 0)), ignore_errors=True)
        shutil.rmtree(self._folder(ticket), ignore_errors=True)

    def _folder(self, ticket: str) -> str:
        if ticket and not _TICKET.fullmatch(ticket):
            raise CapsuleError("bad_ticket", f"{ticket[:60]!r} is no ticket", "give what capsule_export returned")
        return os.path.join(self._store.directory, "tickets", ticket)


def qemu_user(capabilities: str) -> int:
    """The user id with which libvirt starts QEMU, from its capabilities; 0 where it says nothing of one."""
    for model in xml_text.parsed(capabilities).iterfind("host/secmodel"):
        label = model.findtext("baselabel") or ""
        if model.findtext("model") == "dac" and re.fullmatch(r"\+\d+:\+\d+", label):
            return int(label[1:].partition(":")[0])
    return 0


def _unit(ticket: str) -> str:
    return f"kvmops-{ticket}.service"


def _make_passable(path: str) -> None:
    """Make the folder of the sockets: QEMU must get through, and nobody may look."""
    for folder in (os.path.dirname(path), path):
        durable_files.make_directory(folder, 0o711)


def _make_key(path: str) -> str:
    done = _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path])
    if done.returncode:
        raise CapsuleError("ssh_key", f"no key can be made at {path}: {done.stderr.strip()}", "install openssh-client")
    with open(f"{path}.pub", encoding="ascii") as file:
        return " ".join(file.read().split()[:2])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise CapsuleError(
            "program_missing", f"there is no {command[0]} on this host", f"install the package that has {command[0]}"
        ) from error


def _last_words(said: bytes, status: int) -> str:
    return said.decode("utf-8", "replace").strip()[-300:] or f"ssh ended with status {status}"


def _no_answer(document: Ticket, why: str) -> CapsuleError:
    source = document["source"]
    return CapsuleError(
        "export_unreachable",
        f"{source} does not give the disks ({why}), so the guest waits for them",
        f"see that {source} is up and that its sshd answers at {document['address']}, port {document['port']}; then "
        "run it again",
    )
