# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import sys
import textwrap

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import cordon
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory import hypervisor_query, libvirt_probe
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.entries import entries, unread
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.hypervisor_query import (
    HypervisorQuery,
    QueryError,
    hypervisor,
)
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit import hostile
from ansible_collections.kvmops.cluster.tests.unit.builders import AWKWARD_NAMES

URI = "qemu+ssh://root@h1/system"
CLOSED = {
    **maintenance.ACTIVE,
    "state": "cordoned",
    "owner": "alice",
    "reason": "«DIMM»",
    "since": "2026-11-24T02:00:00Z",
}


@pytest.fixture
def host(cluster):
    return cluster.add_host("h1")


def seen(uri=URI):
    """What the probe writes, as it comes out at the other end."""
    return json.loads(json.dumps(libvirt_probe.probe(libvirt, uri, maintenance.PUBLISHED_AS)))


def test_what_a_libvirtd_says_is_told_in_the_words_of_a_snapshot(host, cluster):
    guests = [host.add_guest(name) for name in ("web1", *AWKWARD_NAMES)]
    host.add_guest("off", state=(libvirt.VIR_DOMAIN_SHUTOFF, 0))
    found = hypervisor_query.hypervisor("h1", URI, seen())
    assert (found["host"], found["host_uuid"], found["connect_uri"]) == ("h1", host.uuid, URI)
    assert found["maintenance"] == maintenance.ACTIVE
    states = {domain["name"]: domain["state"] for domain in found["domains"]}
    assert states == {**{guest.name: "running" for guest in guests}, "off": "shutoff"}
    (web1,) = [domain for domain in found["domains"] if domain["name"] == "web1"]
    assert set(web1) == {"name", "uuid", "vcpus", "memory_bytes", "metadata", "state"}
    assert (web1["uuid"], web1["metadata"]["group"]) == (guests[0].uuid, {"apart": None, "together": None})
    assert all(read_only for _uri, read_only in cluster.opened)
    assert cluster.writes == []


def test_a_host_that_is_closed_is_seen_to_be(host):
    cordon.publish(libvirt.open("qemu:///system"), CLOSED)
    assert hypervisor_query.hypervisor("h1", URI, seen())["maintenance"] == CLOSED


def test_a_record_that_cannot_be_read_counts_as_closed(host):
    found = hypervisor_query.hypervisor(
        "h1", URI, {**seen(), "record": "<secret><description>{</description></secret>"}
    )
    assert found["maintenance"]["state"] == "cordoned"
    assert "it is not JSON" in found["maintenance"]["reason"]


def test_the_states_of_the_probe_are_libvirts():
    numbers = ["NOSTATE", "RUNNING", "BLOCKED", "PAUSED", "SHUTDOWN", "SHUTOFF", "CRASHED", "PMSUSPENDED"]
    assert [getattr(libvirt, f"VIR_DOMAIN_{name}") for name in numbers] == list(range(len(libvirt_probe.STATES)))


@pytest.fixture
def ways(monkeypatch):
    """Say which programs this controller has."""

    def have(*programs, binding=None):
        monkeypatch.setattr(hypervisor_query, "interpreter", lambda: binding)
        monkeypatch.setattr(
            hypervisor_query.shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None
        )

    return have


def test_the_first_way_that_is_there_is_taken(ways):
    ways("virsh", binding="/usr/bin/python3")
    assert HypervisorQuery().access(URI) == "binding"
    ways("virsh")
    assert HypervisorQuery().access(URI) == "virsh"
    ways()
    assert HypervisorQuery().access(URI) == "ssh"
    assert HypervisorQuery(via="ssh").access("qemu+libssh2+ssh://h1/system") == "ssh"


@pytest.mark.parametrize(
    ("via", "uri", "words"),
    [
        ("auto", "qemu+tls://h1/system", "install libvirt-clients or python3-libvirt on this controller"),
        ("auto", "qemu:///system", "it is not a qemu+ssh:// URI"),
        ("binding", URI, "install python3-libvirt"),
        ("virsh", URI, "install libvirt-clients"),
        ("ssh", "qemu+tls://h1/system", "only qemu+ssh:// URIs"),
    ],
)
def test_where_there_is_no_way_it_is_said_what_to_install(ways, via, uri, words):
    ways()
    with pytest.raises(QueryError) as refused:
        HypervisorQuery(via=via).snapshot("h1", uri)
    assert words in str(refused.value)
    assert str(refused.value).endswith("or use snapshots that host_info took")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program in the way that answers as it is told, and get what it was called with."""
    calls = tmp_path / "calls"

    def make(name, body):
        file = tmp_path / name
        head = f"#!{sys.executable}\nimport json, sys\nwith open({str(calls)!r}, 'a') as file:\n"
        file.write_text(head + "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n" + textwrap.dedent(body))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()]

    return make


def test_ssh_alone_runs_the_probe_on_the_host(ways, program, host, tmp_path):
    ways()
    host.add_guest("web1")
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(seen()))
    calls = program("ssh", f"compile(sys.stdin.read(), 'probe', 'exec')\nprint(open({str(answer)!r}).read())")
    found = HypervisorQuery(ssh_args=("-F", "none")).snapshot(
        "h1", "qemu+ssh://root@h1:2222/system?keyfile=/k&no_verify=1"
    )
    assert [domain["name"] for domain in found["domains"]] == ["web1"]
    (call,) = calls()
    assert call[4:] == [
        *("-i", "/k", "-o", "StrictHostKeyChecking=no", "-p", "2222", "-l", "root", "-F", "none", "--", "h1"),
        f"/usr/bin/python3 -I - qemu:///system {maintenance.PUBLISHED_AS}",
    ]
    assert call[:2] == ["-o", "BatchMode=yes"]


def test_nothing_of_a_uri_reaches_the_shell_of_the_host(ways, program):
    ways()
    calls = program("ssh", "print(json.dumps({'error': 'no'}))")
    with pytest.raises(QueryError, match="no; try it"):
        HypervisorQuery(via="ssh").snapshot("h1", "qemu+ssh://h1/system;reboot")
    assert calls()[0][-1].startswith("/usr/bin/python3 -I - 'qemu:///system;reboot' ")


def test_what_ssh_complains_of_is_told(ways, program):
    ways()
    program("ssh", "sys.stderr.write('Host key verification failed.\\n')\nsys.exit(255)")
    with pytest.raises(QueryError, match=r"qemu\+ssh://root@h1/system: Host key verification failed"):
        HypervisorQuery().snapshot("h1", URI)


def test_a_host_that_hangs_is_given_up(ways, program):
    ways()
    program("ssh", "import time\ntime.sleep(60)")
    with pytest.raises(QueryError, match=r"no answer within 0.5 s; see whether the host is up, or raise timeout_s"):
        HypervisorQuery(timeout_s=0.5).snapshot("h1", URI)


def test_the_binding_looks_in_a_process_of_its_own(ways, program, host, tmp_path):
    host.add_guest("web1")
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(seen()))
    calls = program("python-with-libvirt", f"print(open({str(answer)!r}).read())")
    ways(binding="python-with-libvirt")
    assert HypervisorQuery().snapshot("h1", URI)["hostname"] == "h1.example.org"
    assert calls() == [["-I", libvirt_probe.__file__, URI, maintenance.PUBLISHED_AS]]


def test_a_probe_without_the_binding_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    libvirt_probe.main(URI, maintenance.PUBLISHED_AS)
    assert "has no libvirt binding" in json.loads(capsys.readouterr().out)["error"]


VIRSH = """
asked = sys.argv[-1]
if asked == "list --all --uuid":
    print("u1\\nu2\\nu3\\nu4;no-UUID\\n")
elif asked == "hostname":
    print("h1.example.org\\n")
elif asked == "capabilities":
    print("<capabilities><host><uuid>host-uuid</uuid></host></capabilities>")
elif asked.startswith("secret-dumpxml"):
    sys.stderr.write("error: failed to get secret\\n")
    sys.exit(1)
else:
    told = {
        "domstate u1": "shut off\\n",
        "dumpxml u1": "<domain type='kvm'>\\n  <name>web1</name>\\n  <uuid>u1</uuid>\\n"
        "  <memory unit='KiB'>1024</memory>\\n  <vcpu>2</vcpu>\\n</domain>\\n",
        "domstate u3": "running\\n",
        "dumpxml u3": "<domain type='kvm' id='7'>\\n  <name>web3\\nin two lines</name>\\n  <uuid>u3</uuid>\\n"
        "<metadata><!--\\n</domain>\\n\\nrunning\\n\\n<domain type='kvm'>\\n<name>h1</name>\\n</domain>\\n-->"
        "</metadata>\\n</domain>\\n",
    }
    for command in asked.split("; "):
        if command.startswith("echo "):
            print(command[5:])
        elif command in told:
            print(told[command])
        else:
            sys.stderr.write("error: failed to get domain\\n")
    sys.exit(1)
"""


def test_virsh_is_asked_for_all_guests_at_once_and_one_that_went_is_left_out(ways, program):
    calls = program("virsh", VIRSH)
    ways("virsh")
    found = HypervisorQuery(via="virsh").snapshot("h1", "qemu+tls://h1/system")
    assert (found["hostname"], found["host_uuid"]) == ("h1.example.org", "host-uuid")
    assert found["maintenance"] == maintenance.ACTIVE
    # What looks like a second guest is a comment in the definition of the first.
    assert [(one["name"], one["state"], one["memory_bytes"]) for one in found["domains"]] == [
        ("web1", "shutoff", 1024**2),
        ("web3\nin two lines", "running", None),
    ]
    assert all(call[:4] == ["--readonly", "--quiet", "--connect", "qemu+tls://h1/system"] for call in calls())
    (asked,) = (call[4] for call in calls() if "domstate" in call[4])
    mark = asked.split("; ")[0]
    assert len(mark) == len("echo ") + 32
    assert asked == "; ".join(f"{mark}; domstate {uuid}; {mark}; dumpxml {uuid}" for uuid in ("u1", "u2", "u3"))


@pytest.mark.parametrize("xml", list(hostile.NO_DEFINITIONS.values()))
def test_a_guest_that_cannot_be_read_hides_no_other(xml):
    told = [
        {"name": "odd", "uuid": "u1", "xml": xml, "state": "running"},
        {"uuid": "u2", "xml": xml, "state": "running"},
        {"name": "web1", "uuid": "u3", "xml": "<domain><name>web1</name><uuid>u3</uuid></domain>", "state": "running"},
    ]
    seen = {"hostname": "h1", "capabilities": "<capabilities/>", "record": None, "guests": told}
    found = hypervisor("h1", URI, seen)
    assert [one["name"] for one in found["domains"]] == ["odd", "u2", "web1"]
    assert [bool(one.get("unreadable")) for one in found["domains"]] == [True, True, False]
    assert len(unread([found])) == 2
    assert unread([found])[0].startswith("the definition of guest odd on h1 cannot be read (it")
    assert len(entries([found], guests=True)) == 4


def test_capabilities_that_cannot_be_read_are_told():
    with pytest.raises(QueryError, match="its capabilities cannot be read: it declares a document type"):
        hypervisor("h1", URI, {"capabilities": "<!DOCTYPE x []><x/>", "hostname": "h1", "record": None, "guests": []})


def test_what_virsh_complains_of_is_told(ways, program):
    program("virsh", "sys.stderr.write('error: failed to connect\\nerror: Connection refused\\n')\nsys.exit(1)")
    ways("virsh")
    with pytest.raises(QueryError, match=r"Connection refused; try it: virsh -r -c qemu\+tls://h1/system list"):
        HypervisorQuery(via="virsh").snapshot("h1", "qemu+tls://h1/system")
