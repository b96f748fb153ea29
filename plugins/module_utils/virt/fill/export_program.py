# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: serves the frozen disks of a ticket, read-only, over standard input and output.

It is the forced command of an ssh key, and runs by itself from a copy of this file. So it imports nothing but Python's
own library. It starts a qemu-nbd for its connection, which ends with it. There is no port, and nothing that has to be
started again when it was killed or the host was rebooted: the next connection brings everything back.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import typing as t

#: What the far end may ask for: one disk, the manifest of its image, what there is, or that a guest's disks are not
#: needed any more.
REQUEST = re.compile(
    r"(?P<export>export (?P<slot>\d{1,3}))|(?P<manifest>manifest (?P<of>\d{1,3}))|(?P<look>look)"
    r"|(?P<end>end (?P<uuid>[0-9a-f-]{36}))"
)
IMAGE = re.compile(r"blocks:([0-9a-f]{64})")
#: The first descriptor that systemd's protocol hands over (sd_listen_fds(3)).
LISTEN_FD = 3
CHUNK = 1 << 18
#: PR_SET_PDEATHSIG of prctl(2).
DEATH_SIGNAL = 1

# NBD's negotiation (doc/proto.md of NetworkBlockDevice/nbd).
OPTION_MAGIC = b"IHAVEOPT"
REPLY_MAGIC = 0x3E889045565A9
UNSUPPORTED = 2**31 + 1
#: A client that knows where the holes are asks for that again and again. When such a question fails, QEMU's filter of a
#: pull tells the guest that its read was done, and gives it whatever was in the buffer (cor_co_preadv_part, up to 10.0
#: at least). So no client gets the right to ask: list and set a context, and headers that would need one.
REFUSED_OPTIONS = (9, 10, 11)
MOST_OPTION_BYTES = 1 << 16


class ExportError(Exception):
    """Why a disk is not served."""


class Request(t.NamedTuple):
    """What the far end asks for.

    Attributes:
        verb: C(export), C(manifest), C(look) or C(end).
        slot: the number of the disk.
        uuid: the guest whose disks are not needed any more.
    """

    verb: str
    slot: int | None = None
    uuid: str | None = None


def request_of(command: str | None) -> Request:
    """What the far end asks for.

    >>> request_of("export 3")
    Request(verb='export', slot=3, uuid=None)
    """
    match = REQUEST.fullmatch(command or "")
    if match is None:
        raise ExportError("this key serves: export NUMBER, manifest NUMBER, look, end UUID")
    verb = next(word for word in ("export", "manifest", "look", "end") if match.group(word))
    slot = match.group("slot") or match.group("of")
    return Request(verb, int(slot) if slot else None, match.group("uuid"))


def record_in(path: str) -> dict[str, t.Any]:
    """The record of an export. The program runs alone, so it cannot use core/shape.py.

    Raises: ExportError when it is damaged. Nobody then knows whom it concerns, so nothing is served until that is seen
        to.
    """
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path} is damaged: it is no JSON ({error}); see what it was, and remove it") from error
    if not _is_record(record):
        raise ExportError(f"{path} is damaged: it is no record of an export; see what it was, and remove it")
    return t.cast("dict[str, t.Any]", record)


def _is_record(record: t.Any) -> bool:
    try:
        details, guest = record["details"], record["guest"]
        disks = details["disks"]
        return (
            isinstance(record["ended"], bool)
            and isinstance(details["ticket"], str)
            and isinstance(guest["uuid"], str)
            and isinstance(disks, list)
            and all(
                isinstance(disk["slot"], int)
                and isinstance(disk["size_bytes"], int)
                and all(isinstance(disk[key], str) for key in ("target", "path", "format"))
                and isinstance(disk["facts"], dict)
                for disk in disks
            )
        )
    except (KeyError, TypeError):
        return False


def records_of(folder: str, ticket: str) -> dict[str, dict[str, t.Any]]:
    """The records of exports that belong to a ticket and have not ended, by their path."""
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("export-") and name.endswith(".json"):
            path = os.path.join(folder, name)
            record = record_in(path)
            if record["details"]["ticket"] == ticket and not record["ended"]:
                found[path] = record
    return found


def disk_of(records: t.Iterable[t.Mapping[str, t.Any]], slot: int) -> t.Mapping[str, t.Any]:
    """The disk with a number.

    Raises: ExportError when there is none, or when somebody has written to it since it was frozen.
    """
    for record in records:
        for disk in record["details"]["disks"]:
            if disk["slot"] == slot:
                fault = changed(disk)
                if fault:
                    raise ExportError(fault)
                return t.cast("t.Mapping[str, t.Any]", disk)
    raise ExportError(f"no disk has number {slot}: its export has ended, or never began")


def changed(disk: t.Mapping[str, t.Any]) -> str | None:
    """What is wrong with a frozen disk; None when it is as it was."""
    try:
        facts = os.stat(disk["path"])
    except OSError as error:
        return f"{disk['path']} is gone ({error.strerror})"
    found = {"inode": facts.st_ino, "size_bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    if found != disk["facts"]:
        return f"{disk['path']} is not as it was when it was frozen: somebody has written to it"
    return None


def serve(disk: t.Mapping[str, t.Any]) -> None:
    """Serve a disk on standard input and output until the far end goes away."""
    with tempfile.TemporaryDirectory(prefix="kvmops-export-") as folder:
        path = os.path.join(folder, "nbd")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            child = os.fork()
            if not child:
                _become_server(listener, disk)
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
    with client:
        threading.Thread(target=_send, args=(client,), daemon=True).start()
        _pass_on(client.fileno(), sys.stdout.fileno())


def _become_server(listener: socket.socket, disk: t.Mapping[str, t.Any]) -> t.NoReturn:
    """Go on as a qemu-nbd that serves one client of a listening socket, and ends with the process that began it."""
    try:
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGTERM)
        os.dup2(listener.fileno(), LISTEN_FD)
        os.set_inheritable(LISTEN_FD, True)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        program = ["qemu-nbd", "--read-only", "--shared=1", f"--format={disk['format']}", "--export-name=disk"]
        environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execvpe(program[0], [*program, disk["path"]], environment)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        sys.stderr.write(f"kvmops: qemu-nbd cannot be started: {error}\n")
    os._exit(1)


def _send(client: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError):
        negotiate(sys.stdin.fileno(), client.fileno(), sys.stdout.fileno())
        _pass_on(sys.stdin.fileno(), client.fileno())
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)


def negotiate(source: int, server: int, answers: int) -> None:
    """Pass on what the client negotiates, but refuse what it must not have. Client and server speak in turns.

    Args:
        source: where the client is read.
        server: where the server is written to.
        answers: where the client is written to.

    Raises: EOFError when the client goes away.
    """
    _write(server, _read(source, 4))
    while True:
        head = _read(source, 4)
        if head != OPTION_MAGIC[:4]:
            # The first request: the negotiation is over.
            _write(server, head)
            return
        head += _read(source, 12)
        option, length = struct.unpack(">II", head[8:])
        if length > MOST_OPTION_BYTES:
            raise EOFError
        data = _read(source, length)
        if option in REFUSED_OPTIONS:
            _write(answers, struct.pack(">QIII", REPLY_MAGIC, option, UNSUPPORTED, 0))
        else:
            _write(server, head + data)


def _read(source: int, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = os.read(source, length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def _pass_on(source: int, sink: int) -> None:
    """Pass on what comes, until one side goes away."""
    with contextlib.suppress(OSError):
        while True:
            data = os.read(source, CHUNK)
            if not data:
                return
            _write(sink, data)


def manifest_of(folder: str, disk: t.Mapping[str, t.Any]) -> str:
    """The file with the digests of all blocks of a disk.

    Args:
        folder: the records of runs, in the store.
        disk: the disk.

    Raises: ExportError when nobody has hashed it.
    """
    match = IMAGE.fullmatch(str(disk.get("image")))
    if match is None:
        raise ExportError(f"nobody has hashed disk {disk['target']}")
    return os.path.join(os.path.dirname(folder), "manifests", match.group(1))


def look(records: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """What the far end may know: which disks there are, and whether each is as it was."""
    return [
        {
            "guest": record["guest"],
            "slot": disk["slot"],
            "target": disk["target"],
            "size_bytes": disk["size_bytes"],
            "image": disk.get("image"),
            "changed": changed(disk),
        }
        for record in records
        for disk in record["details"]["disks"]
    ]


def end(records: t.Mapping[str, dict[str, t.Any]], uuid: str) -> int:
    """Mark the export of a guest's disks as ended; returns how many other guests still need the ticket."""
    for path, record in records.items():
        if record["guest"]["uuid"] == uuid:
            _replace(path, json.dumps({**record, "ended": True}, sort_keys=True, indent=1).encode())
    return sum(record["guest"]["uuid"] != uuid for record in records.values())


def forget_key(authorized_keys: str, ticket: str) -> None:
    """Remove the line of a ticket: nobody needs it any more."""
    with contextlib.suppress(FileNotFoundError):
        with open(authorized_keys, "rb") as file:
            lines = file.read().splitlines(keepends=True)
        mark = f" kvmops-capsule {ticket} ".encode()
        kept = [line for line in lines if mark not in line]
        if kept != lines:
            _replace(authorized_keys, b"".join(kept))


def _replace(path: str, data: bytes) -> None:
    """Put a file in the place of another, with its mode."""
    beside = f"{path}.{os.getpid()}.new"
    mode = os.stat(path).st_mode & 0o777
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.rename(beside, path)


def main(folder: str, ticket: str, authorized_keys: str) -> int:
    """Do what the far end asks for with this key.

    Args:
        folder: the records of runs.
        ticket: what the key is for.
        authorized_keys: the file that has the key.
    """
    try:
        records = records_of(folder, ticket)
        request = request_of(os.environ.get("SSH_ORIGINAL_COMMAND"))
        if request.verb == "export":
            serve(disk_of(records.values(), t.cast(int, request.slot)))
        elif request.verb == "manifest":
            with open(manifest_of(folder, disk_of(records.values(), t.cast(int, request.slot))), "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        elif request.verb == "look":
            sys.stdout.write(json.dumps(look(records.values())))
        elif not end(records, str(request.uuid)):
            forget_key(authorized_keys, ticket)
    except (ExportError, OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"kvmops: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
