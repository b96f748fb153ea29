# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.kvmops.cluster.plugins.module_utils.run.maintenance import PUBLISHED_AS
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import as_root

ROLE = Path(__file__).parents[3] / "roles/secure_hosts"
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
SPEC = importlib.util.spec_from_file_location("peer_calls", ROLE / "files/peer_calls.py")
peer_calls = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(peer_calls)


def frame(procedure, *, program=peer_calls.REMOTE, kind=peer_calls.CALL, serial=7, body=b""):
    head = peer_calls.HEADER.pack(program, 1, procedure, kind, serial, 0)
    return struct.pack("!I", 4 + len(head) + len(body)) + head + body


# ---- the calls of other hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("procedure", [1, 14, 273, 303, 306])
def test_a_call_that_is_named_goes_on(procedure):
    assert peer_calls.refusal(frame(procedure)) is None


def test_keepalive_goes_on():
    assert peer_calls.refusal(frame(1, program=peer_calls.KEEPALIVE, kind=2)) is None


@pytest.mark.parametrize(
    ("procedure", "what"),
    [
        (8, "attach_device"),
        (9, "create"),
        (10, "create_xml"),
        (11, "define_xml"),
        (12, "destroy"),
        (35, "undefine"),
        (104, "memory_peek"),
        (142, "secret_define_xml"),
        (208, "storage_vol_upload"),
        (216, "migrate_perform3"),
        (305, "migrate_perform3_params"),
    ],
)
def test_any_other_call_is_answered_with_a_refusal(procedure, what):
    answer = peer_calls.refusal(frame(procedure, serial=4711))
    length, program, version, number, kind, serial, status, code = struct.unpack_from("!8I", answer)
    assert (length, program, version, number) == (len(answer), peer_calls.REMOTE, 1, procedure), what
    assert (kind, serial, status, code) == (peer_calls.REPLY, 4711, peer_calls.ERROR, peer_calls.ACCESS_DENIED)
    assert f"this host does not take call {procedure} of program 0x20008086 from another host".encode() in answer


def test_the_monitor_of_qemu_is_no_call_of_another_host():
    assert peer_calls.refusal(frame(1, program=0x20008087)) is not None


def test_data_that_is_no_call_ends_the_connection():
    with pytest.raises(peer_calls.ProtocolError, match="a frame of type 3"):
        peer_calls.refusal(frame(148, kind=3))


@pytest.mark.parametrize("length", [0, 4, 27, peer_calls.MOST_BYTES + 1, 2**32 - 1])
def test_a_length_that_libvirt_does_not_send_ends_the_connection(length):
    with pytest.raises(peer_calls.ProtocolError, match=f"a frame of {length} bytes"):
        peer_calls.frames(bytearray(struct.pack("!I", length) + bytes(40)))


def test_frames_may_come_in_any_pieces():
    whole, data, found = frame(1, body=b"abcd") + frame(12), bytearray(), []
    for number in range(len(whole)):
        data += whole[number : number + 1]
        found += peer_calls.frames(data)
    assert found == [frame(1, body=b"abcd"), frame(12)]
    assert data == b""


def test_only_what_is_permitted_reaches_the_daemon():
    peer, (ours, daemon) = socket.socketpair(), socket.socketpair()
    served = threading.Thread(target=peer_calls.serve, args=(peer[1].fileno(), peer[1].fileno(), ours))
    served.start()
    peer[0].sendall(frame(12) + frame(1))
    assert daemon.recv(1000) == frame(1)
    daemon.sendall(b"answer")
    came = b""
    while not came.endswith(b"answer"):
        came += peer[0].recv(1000)
    assert b"this host does not take call 12" in came
    peer[0].shutdown(socket.SHUT_WR)
    served.join(10)
    assert not served.is_alive()


# ---- rights ----------------------------------------------------------------------------------------------------------


def test_the_secret_of_the_rule_is_that_of_the_record():
    assert VARIABLES["__secure_hosts_record"] == PUBLISHED_AS


@pytest.mark.parametrize(
    "action",
    [
        "domain.delete",
        "domain.stop",
        "domain.save",
        "domain.core-dump",
        "domain.read-secure",
        "secret.read-secure",
        "storage-vol.data-read",
        "storage-vol.data-write",
        "storage-pool.save",
        "network.write",
    ],
)
def test_no_list_permits_what_no_move_takes(action):
    for name in ("look", "of_user", "of_peer", "of_record"):
        assert action not in VARIABLES[f"__secure_hosts_{name}"]


def test_the_rules_of_the_ports_name_each_other_host_and_no_more():
    environment = jinja2.Environment(trim_blocks=True)
    environment.tests["search"] = lambda value, pattern: pattern in value
    text = environment.from_string((ROLE / "templates/migration_ports.nft.j2").read_text(encoding="utf-8")).render(
        __secure_hosts_ports="49152-49215", __secure_hosts_from_peers=["192.0.2.2", "2001:db8::2", "192.0.2.3"]
    )
    rules = [line.strip() for line in text.splitlines() if line.startswith("        ") and "#" not in line]
    assert rules == [
        "type filter hook input priority filter - 10; policy accept;",
        'iifname "lo" accept',
        "ip saddr 192.0.2.2 tcp dport 49152-49215 accept",
        "ip saddr 192.0.2.3 tcp dport 49152-49215 accept",
        "ip6 saddr 2001:db8::2 tcp dport 49152-49215 accept",
        "tcp dport 49152-49215 tcp flags & (fin | syn | rst | ack) == syn counter reject with tcp reset",
    ]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", "49152-49215"),
        ("#migration_port_min = 50000\n", "49152-49215"),
        ("migration_port_min = 50000\nmigration_port_max=50063\n", "50000-50063"),
    ],
)
def test_the_ports_are_those_of_qemu_conf(text, ports):
    environment = jinja2.Environment()
    environment.filters["regex_findall"] = lambda value, pattern: re.findall(pattern, value)
    known = {"__secure_hosts_texts": ["", text]}
    for name in ("port_first", "port_last", "ports"):
        known[f"__secure_hosts_{name}"] = environment.from_string(VARIABLES[f"__secure_hosts_{name}"]).render(known)
    assert known["__secure_hosts_ports"] == ports


def test_sudo_permits_the_very_command_that_the_check_of_a_path_runs():
    template = jinja2.Template((ROLE / "templates/sudoers.j2").read_text(encoding="utf-8"), trim_blocks=True)
    uri = "qemu+ssh://kvmops-peer@h2:2222/system?no_tty=1"
    lines = template.render(
        secure_hosts_user="kvmops",
        __secure_hosts_peers=["h2"],
        hostvars={"h2": {"__secure_hosts_told": {"uri": uri}}},
    ).splitlines()
    rules = [line.partition("NOPASSWD: ")[2] for line in lines if "NOPASSWD" in line]
    # sudo wants these characters marked (sudoers(5), "Other special characters and reserved words").
    assert rules == [r"/usr/bin/virsh -r -c qemu+ssh\://kvmops-peer@h2\:2222/system\?no_tty\=1 version"]
    assert rules[0].replace("\\", "") == " ".join(as_root.command(uri))


# ---- certificates ----------------------------------------------------------------------------------------------------


def certificate(what, folder, host="h1", names="DNS:h1,IP:198.18.0.11"):
    words = ["sh", str(ROLE / "files/certificate"), what, str(folder), host, names, "825"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_made_once_and_names_its_host(tmp_path):
    folder = tmp_path / "ca"
    assert certificate("check", folder).stdout == "made\n"
    assert not folder.exists()
    assert certificate("make", folder).stdout == "made\n"
    assert certificate("make", folder).stdout == certificate("check", folder).stdout == "kept\n"
    # Another name takes another certificate, of the same authority.
    authority = (folder / "ca-cert.pem").read_bytes()
    assert certificate("make", folder, names="DNS:h1,IP:198.18.0.99").stdout == "made\n"
    assert (folder / "ca-cert.pem").read_bytes() == authority
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(folder / "h1-cert.pem"), "-noout", "-ext", "subjectAltName,extendedKeyUsage"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "DNS:h1, IP Address:198.18.0.99" in shown
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in shown
    assert (folder / "ca-key.pem").stat().st_mode & 0o077 == 0
    assert (folder / "h1-key.pem").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", ["../h1", "a/b", "-h1", ".h1", ""])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, host):
    done = certificate("make", tmp_path, host=host)
    assert done.returncode == 2
    assert done.stderr == f"certificate: '{host}' is no name of a host\n"
