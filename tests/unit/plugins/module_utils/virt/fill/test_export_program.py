# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import os
import struct

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import export_program

GUEST = {"name": "db1", "uuid": "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"}
OTHER = {"name": "db2", "uuid": "1b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"}


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.qcow2"
    path.write_bytes(b"frozen")
    return path


def disk(path, slot=0, image=None):
    facts = path.stat()
    known = {"inode": facts.st_ino, "size_bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    return {
        "slot": slot,
        "target": "vda",
        "path": str(path),
        "size_bytes": 4096,
        "format": "qcow2",
        "facts": known,
        "image": image,
    }


def record(tmp_path, image, guest=None, slot=0, ticket="fill-0123abcd", ended=False):
    folder = tmp_path / "runs"
    folder.mkdir(exist_ok=True)
    guest = guest or GUEST
    found = {"guest": guest, "ended": ended, "details": {"ticket": ticket, "disks": [disk(image, slot)]}}
    (folder / f"export-{guest['uuid']}.json").write_text(json.dumps(found))
    return str(folder)


def asked(monkeypatch, command, folder, keys, ticket="fill-0123abcd"):
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", command)
    return export_program.main(folder, ticket, str(keys))


@pytest.mark.parametrize(
    "command",
    [None, "", "sh", "export", "export ../x", "export 0; id", "end", "look now", "export 1234", "manifest /etc"],
)
def test_the_key_does_nothing_else(command):
    with pytest.raises(export_program.ExportError) as error:
        export_program.request_of(command)
    assert str(error.value) == "this key serves: export NUMBER, manifest NUMBER, look, end UUID"


def test_the_far_end_sees_its_disks_only(tmp_path, image, monkeypatch, capsys):
    folder = record(tmp_path, image)
    record(tmp_path, image, OTHER, 1, ticket="fill-of-another")
    assert asked(monkeypatch, "look", folder, tmp_path / "keys") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["guest"], found["slot"], found["changed"]) == (GUEST, 0, None)


def test_a_disk_that_was_written_to_is_not_served(tmp_path, image, monkeypatch, capsys):
    folder = record(tmp_path, image)
    image.write_bytes(b"frozen no more")
    assert asked(monkeypatch, "export 0", folder, tmp_path / "keys") == 1
    said = capsys.readouterr().err
    assert said == f"kvmops: {image} is not as it was when it was frozen: somebody has written to it\n"


def test_an_export_that_has_ended_is_served_no_more(tmp_path, image, monkeypatch, capsys):
    folder = record(tmp_path, image, ended=True)
    assert asked(monkeypatch, "export 0", folder, tmp_path / "keys") == 1
    assert capsys.readouterr().err == "kvmops: no disk has number 0: its export has ended, or never began\n"


def test_the_key_goes_with_the_last_guest(tmp_path, image, monkeypatch):
    folder = record(tmp_path, image)
    record(tmp_path, image, OTHER, 1)
    keys = tmp_path / "authorized_keys"
    mine = "restrict ssh-ed25519 AAAA kvmops-capsule fill-0123abcd expires=9\n"
    others = "ssh-ed25519 BBBB kvmops-capsule fill-0123abcdef expires=9\nssh-ed25519 CCCC alice\n"
    keys.write_text(mine + others)
    keys.chmod(0o600)
    assert asked(monkeypatch, f"end {GUEST['uuid']}", folder, keys) == 0
    assert keys.read_text() == mine + others
    assert asked(monkeypatch, f"end {OTHER['uuid']}", folder, keys) == 0
    assert keys.read_text() == others
    assert keys.stat().st_mode & 0o777 == 0o600
    ended = [json.loads(path.read_text())["ended"] for path in (tmp_path / "runs").iterdir()]
    assert ended == [True, True]


def test_digests_are_given_of_an_exported_disk_only(tmp_path, image, monkeypatch, capfdbinary):
    folder = record(tmp_path, image)
    path = tmp_path / "runs" / f"export-{GUEST['uuid']}.json"
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / ("a" * 64)).write_bytes(b"digests of it")
    assert asked(monkeypatch, "manifest 0", folder, tmp_path / "keys") == 1
    assert capfdbinary.readouterr().err == b"kvmops: nobody has hashed disk vda\n"
    found = json.loads(path.read_text())
    found["details"]["disks"][0]["image"] = "blocks:" + "a" * 64
    path.write_text(json.dumps(found))
    assert asked(monkeypatch, "manifest 0", folder, tmp_path / "keys") == 0
    assert capfdbinary.readouterr().out == b"digests of it"
    found["details"]["disks"][0]["image"] = "blocks:../../etc/shadow"
    path.write_text(json.dumps(found))
    assert asked(monkeypatch, "manifest 0", folder, tmp_path / "keys") == 1


def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def negotiated(tmp_path, spoken):
    """What server and client get of what a client says."""
    heard, answered = tmp_path / "server", tmp_path / "client"
    reading, writing = os.pipe()
    os.write(writing, spoken)
    os.close(writing)
    with heard.open("wb") as server, answered.open("wb") as client:
        export_program.negotiate(reading, server.fileno(), client.fileno())
    rest = os.read(reading, 100)
    os.close(reading)
    return heard.read_bytes(), answered.read_bytes(), rest


def test_no_client_may_ask_where_the_holes_are(tmp_path):
    """QEMU takes a failed question for a read that was done."""
    flags, structured, context, go = b"\0\0\0\1", option(8), option(10, b"base:allocation"), option(7, b"disk")
    request = b"\x25\x60\x95\x13" + b"request"
    heard, answered, rest = negotiated(tmp_path, flags + structured + context + go + request)
    assert heard == flags + structured + go + request[:4]
    assert rest == b"request"
    assert answered == struct.pack(">QIII", 0x3E889045565A9, 10, 2**31 + 1, 0)


def test_a_client_that_goes_away_or_sends_nonsense_is_left(tmp_path):
    with pytest.raises(EOFError):
        negotiated(tmp_path, b"\0\0\0\1" + option(7, b"disk")[:10])
    with pytest.raises(EOFError):
        negotiated(tmp_path, b"\0\0\0\1IHAVEOPT" + struct.pack(">II", 7, 2**31))
