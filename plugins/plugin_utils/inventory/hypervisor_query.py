# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: ask hypervisors from the controller, with or without libvirt on the controller.

from __future__ import annotations

import dataclasses
import functools
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import typing as t
import urllib.parse
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape, xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import plain_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities, guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory import libvirt_probe

ACCESS = ("binding", "virsh", "ssh")

#: On a hypervisor the binding is the distribution's, for the distribution's interpreter.
HOST_PYTHON = "/usr/bin/python3"
#: Whatever lies in the folder where Python is started must not be taken for a library.
ALONE = "-I"
#: virsh takes several commands in one call, and a call is one connection; the command line has an end.
GUESTS_A_CALL = 500

#: In what is told of a guest: why its definition cannot be read.
UNREADABLE = "unreadable"
_UUID = re.compile(r"[A-Za-z0-9-]{1,36}")

Answer = dict[str, t.Any]


_ANSWER = shape.either(
    shape.mapping({"error": shape.text()}),
    shape.mapping({
        "hostname": shape.text(),
        "capabilities": shape.text(),
        "record": shape.or_null(shape.text()),
        "guests": shape.list_of(shape.mapping({"xml": shape.text(), "state": shape.text()}, others=True)),
    }),
)  # fmt: skip


class QueryError(Exception):
    """A libvirtd that gave no answer; says why and what to do."""


@dataclasses.dataclass(frozen=True)
class HypervisorQuery:
    """How hypervisors are asked.

    Attributes:
        via: one of L(ACCESS), or C(auto) for the first that is there.
        ssh_args: further arguments of ssh.
        timeout_s: how long one hypervisor may take.
    """

    via: str = "auto"
    ssh_args: tuple[str, ...] = ()
    timeout_s: float = 20.0

    def snapshot(self, name: str, uri: str) -> dict[str, t.Any]:
        """Return the hypervisor behind a URI as a snapshot, as far as this connection tells.

        Raises:
            QueryError: it gave no answer.
        """
        answer = {"binding": self._binding, "virsh": self._virsh, "ssh": self._ssh}[self.access(uri)](uri)
        if "error" in answer:
            raise QueryError(f"{uri}: {answer['error']}; try it: virsh -r -c {shlex.quote(uri)} list")
        return hypervisor(name, uri, answer)

    def access(self, uri: str) -> str:
        """Return how this URI is asked: binding, virsh or ssh.

        Raises:
            QueryError: there is none.
        """
        can = {"binding": interpreter() is not None, "virsh": shutil.which("virsh") is not None, "ssh": _is_ssh(uri)}
        for access in ACCESS if self.via == "auto" else (self.via,):
            if can[access]:
                return access
        raise QueryError(
            f"{uri} cannot be reached from here: "
            + {
                "binding": "no Python on this controller has the libvirt binding; install python3-libvirt",
                "virsh": "virsh is not installed on this controller; install libvirt-clients",
                "ssh": "only qemu+ssh:// URIs work with ssh alone; give one",
                "auto": "it is not a qemu+ssh:// URI, for which ssh is enough; install libvirt-clients or"
                " python3-libvirt on this controller",
            }[self.via]
            + ", or use snapshots that host_info took"
        )

    def _binding(self, uri: str) -> Answer:
        command = [interpreter() or HOST_PYTHON, ALONE, libvirt_probe.__file__, uri, maintenance.PUBLISHED_AS]
        return self._probed(command, uri)

    def _ssh(self, uri: str) -> Answer:
        # What ssh is given for the other end goes through a shell there.
        asked = shlex.join([HOST_PYTHON, ALONE, "-", local_uri(uri), maintenance.PUBLISHED_AS])
        source = Path(libvirt_probe.__file__).read_text(encoding="utf-8")
        return self._probed([*ssh_command(uri, self.ssh_args, self.timeout_s), asked], uri, source)

    def _probed(self, command: list[str], uri: str, source: str = "") -> Answer:
        done = self._run(command, uri, source)
        try:
            answer = json_text.parsed(done.stdout)
            _ANSWER(answer, "its answer")
        except json_text.JsonTextError as error:
            raise QueryError(f"{uri}: {_said(done)}") from error
        except shape.ShapeError as error:
            raise QueryError(f"{uri}: {error}") from error
        return t.cast(Answer, answer)

    def _virsh(self, uri: str) -> Answer:
        told = self._call(uri, "list --all --uuid").split()
        uuids = [uuid for uuid in told if _UUID.fullmatch(uuid)]
        guests: list[dict[str, str]] = []
        for first in range(0, len(uuids), GUESTS_A_CALL):
            part, mark = uuids[first : first + GUESTS_A_CALL], secrets.token_hex(16)
            asked = "; ".join(f"echo {mark}; domstate {uuid}; echo {mark}; dumpxml {uuid}" for uuid in part)
            guests += guests_told(self._call(uri, asked, whole=False), mark, part)
        return {
            "hostname": self._call(uri, "hostname").strip(),
            "capabilities": self._call(uri, "capabilities"),
            "record": self._call(uri, f"secret-dumpxml {maintenance.PUBLISHED_AS}", whole=False).strip() or None,
            "guests": guests,
        }

    def _call(self, uri: str, commands: str, *, whole: bool = True) -> str:
        """What virsh writes; ``whole`` says that it must have done all of it."""
        done = self._run(["virsh", "--readonly", "--quiet", "--connect", uri, commands], uri)
        if whole and done.returncode:
            raise QueryError(f"{uri}: {_said(done)}; try it: virsh -r -c {shlex.quote(uri)} list")
        return done.stdout

    def _run(self, command: list[str], uri: str, source: str = "") -> subprocess.CompletedProcess[str]:
        # Words are read from what it writes, and nobody is there to answer a question.
        surroundings = {**os.environ, "LC_ALL": "C.UTF-8"}
        try:
            return subprocess.run(
                command,
                input=source,
                env=surroundings,
                capture_output=True,
                timeout=self.timeout_s,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise QueryError(
                f"{uri}: no answer within {self.timeout_s:g} s; see whether the host is up, or raise timeout_s"
            ) from error
        except OSError as error:
            raise QueryError(
                f"{uri}: {command[0]} cannot be run: {error.strerror}; install it on this controller"
            ) from error


def hypervisor(name: str, uri: str, answer: Answer) -> dict[str, t.Any]:
    """A hypervisor in the words of a snapshot, from what its libvirtd says.

    Raises:
        QueryError: it says what no libvirtd says.
    """
    try:
        described = capabilities.parse(answer["capabilities"])
    except xml_text.XmlTextError as error:
        raise QueryError(f"{uri}: its capabilities cannot be read: {error}; see virsh capabilities there") from error
    return {
        "host": name,
        "hostname": answer["hostname"],
        "host_uuid": capabilities.host_uuid(described),
        "connect_uri": uri,
        "maintenance": _maintenance(answer["record"]),
        "domains": [_guest(guest) for guest in answer["guests"]],
    }


def _maintenance(secret: str | None) -> dict[str, t.Any]:
    if secret is None:
        return dict(maintenance.ACTIVE)
    try:
        return maintenance.parsed(xml_text.parsed(secret).findtext("description") or "", "that it publishes")
    except (maintenance.RecordError, xml_text.XmlTextError) as error:
        return {**maintenance.ACTIVE, "state": "cordoned", "reason": str(error)}


def _guest(told: t.Mapping[str, str]) -> dict[str, t.Any]:
    known = {key: told[key] for key in ("name", "uuid") if told.get(key)}
    try:
        described = guest_xml.describe(guest_xml.parse(told["xml"]))
    except xml_text.XmlTextError as error:
        uuid = known.get("uuid", "")
        unread: dict[str, t.Any] = {"vcpus": None, "memory_bytes": None, "metadata": {}, UNREADABLE: str(error)}
        return {"name": uuid, "uuid": uuid, **known, **unread, "state": plain_state(told)}
    wanted = ("name", "uuid", "vcpus", "memory_bytes", "metadata")
    return {**{key: described[key] for key in wanted}, **known, "state": plain_state(told)}


def guests_told(text: str, mark: str, uuids: t.Sequence[str]) -> list[dict[str, str]]:
    """The guests in what C(virsh) wrote; those that are gone are not there.

    Args:
        text: for each guest the mark, what C(domstate) says, the mark, and what C(dumpxml) says.
        mark: a line that no guest knows: what a definition says may look like anything that virsh writes.
        uuids: the guests that were asked for.
    """
    parts: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line == mark:
            parts.append([])
        else:
            parts[-1].append(line)
    told = ["\n".join(lines).strip() for lines in parts[1:]]
    found = zip(uuids, told[::2], told[1::2], strict=False)
    return [{"uuid": uuid, "state": state, "xml": xml} for uuid, state, xml in found if state and xml]


@functools.cache
def interpreter() -> str | None:
    """A Python of this controller that has the libvirt binding, or None."""
    for python in (sys.executable, HOST_PYTHON):
        try:
            done = subprocess.run([python, ALONE, "-c", "import libvirt"], capture_output=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return python
    return None


def _is_ssh(uri: str) -> bool:
    parts = urllib.parse.urlsplit(uri)
    return parts.scheme.endswith("+ssh") and bool(parts.hostname)


def local_uri(uri: str) -> str:
    """A URI as it is on the host itself.

    >>> local_uri("qemu+ssh://root@h1/system?keyfile=/root/.ssh/id")
    'qemu:///system'
    """
    parts = urllib.parse.urlsplit(uri)
    return f"{parts.scheme.partition('+')[0]}://{parts.path or '/system'}"


def ssh_command(uri: str, ssh_args: t.Sequence[str], timeout_s: float) -> list[str]:
    """How the host of a URI is reached through ssh, with what libvirt itself takes from it (libvirt.org/uri.html).

    >>> ssh_command("qemu+ssh://root@h1:2222/system?keyfile=/k", ["-F", "none"], 20)[3:]
    ['-o', 'ConnectTimeout=20', '-i', '/k', '-p', '2222', '-l', 'root', '-F', 'none', '--', 'h1']
    """
    parts = urllib.parse.urlsplit(uri)
    query = urllib.parse.parse_qs(parts.query)
    command = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, int(timeout_s))}"]
    for key in query.get("keyfile", []):
        command += ["-i", key]
    for path in query.get("known_hosts", []):
        command += ["-o", f"UserKnownHostsFile={path}"]
    if query.get("no_verify", ["0"])[0] == "1":
        command += ["-o", "StrictHostKeyChecking=no"]
    if parts.port:
        command += ["-p", str(parts.port)]
    if parts.username:
        command += ["-l", urllib.parse.unquote(parts.username)]
    return [*command, *ssh_args, "--", parts.hostname or ""]


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout or "").splitlines() if line.strip()]
    return " ".join(lines[-3:]).removeprefix("error: ")[:500] or f"it ended with {done.returncode} and said nothing"
