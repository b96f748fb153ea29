# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on which nobody logs in as root: a host is drained and comes back, and what is not permitted is refused."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from harness import actual_state
from harness.ansible import Outcome
from harness.operator import Operator
from harness.tidy import tidy
from lab import Host, Lab

pytestmark = pytest.mark.soak

HOSTS = ("h1", "h2", "h3")
LEAVING = ["busy", "idle", "shy", "web-one"]
NO_ROOT = "/etc/ssh/sshd_config.d/05-no-root.conf"
#: Root's own key goes as well: no host could log in elsewhere with it. What is refused here shall keep nobody out.
CLOSE = f"""
printf 'PermitRootLogin no\\nPerSourcePenalties no\\n' > {NO_ROOT} &&
mv /root/.ssh /root/.ssh-away && systemctl reload ssh
"""
OPEN = f"rm -f {NO_ROOT}; [ ! -e /root/.ssh-away ] || mv /root/.ssh-away /root/.ssh; systemctl reload ssh"


def as_root_without_ssh(
    host: Host, command: str, given: str | None, *, check: bool = True, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a shell command on a host from the machine that it is a container of."""
    words = ["nsenter", "--target", str(host.leader()), "--all", "/bin/sh", "-c", command]
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=timeout)
    assert not check or done.returncode == 0, f"{host.name}: {command}: {done.stderr}"
    return done


@dataclass
class Secured:
    """A cluster on which the role has been run, twice, and where root cannot log in any more."""

    lab: Lab
    operator: Operator
    checked: Outcome
    first: Outcome
    second: Outcome

    def as_user(self, host: str, command: str, user: str = "kvmops") -> subprocess.CompletedProcess[str]:
        """Run a shell command as the user that Ansible works as."""
        return self.lab.host(host).ssh(f"runuser -u {user} -- sh -c {shlex.quote(command)}")

    def as_other_host(self, source: str, destination: str, words: str) -> subprocess.CompletedProcess[str]:
        """Run virsh as root of one host, who has the key by which hosts log in to each other."""
        return self.lab.host(source).ssh(f"virsh -q -c qemu+ssh://kvmops-peer@{destination}/system {words}")


def work_as_user(operator: Operator) -> None:
    """Let the inventory say what the role has told."""
    document = yaml.safe_load(operator.inventory.read_text(encoding="utf-8"))
    group = document["all"]["children"]["hypervisors"]
    group["vars"] |= {"ansible_user": "kvmops"}
    for name, variables in group["hosts"].items():
        variables["kvmops_cluster_connect_uri"] = f"qemu+ssh://kvmops-peer@{name}/system"
    operator.inventory.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def secured(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    lab = tidy(cluster)
    operator = Operator(
        lab,
        tmp_path_factory.mktemp("secured"),
        without=("h4",),
        variables={"drain_host_measure_s": 2, "restore_host_measure_s": 2},
    )
    wanted: dict[str, Any] = {
        "ansible_user": "root",
        "secure_hosts_login_keys": [lab.settings.ssh_key.with_suffix(".pub").read_text(encoding="ascii").strip()],
        "secure_hosts_ca_dir": str(operator.folder / "ca"),
    }
    work_as_user(operator)
    closed = pytest.MonkeyPatch()
    try:
        checked = operator.run("secure_hosts", "--check", **wanted)
        first = operator.run("secure_hosts", **wanted)
        assert first.status == 0, first.text
        second = operator.run("secure_hosts", **wanted)
        for name in HOSTS:
            lab.host(name).ssh(CLOSE, check=True)
        closed.setattr(Host, "ssh_with", as_root_without_ssh)
        yield Secured(lab, operator, checked, first, second)
    finally:
        for name in HOSTS:
            as_root_without_ssh(lab.host(name), OPEN, None)
        closed.undo()
        removed = operator.run("secure_hosts", **wanted, secure_hosts_state="absent")
        operator.leave()
        tidy(lab)
    assert removed.status == 0, removed.text
    left = "ls -d /etc/kvmops /etc/pki/qemu/kvmops /etc/sudoers.d/kvmops /etc/polkit-1/rules.d/40-kvmops.rules"
    for name in HOSTS:
        assert lab.host(name).ssh(left).stdout == ""
        assert lab.host(name).ssh("getent passwd kvmops kvmops-peer").stdout == ""


def test_a_check_shows_it_and_a_second_run_changes_nothing(secured: Secured) -> None:
    assert secured.checked.status == 0, secured.checked.text
    assert secured.checked.total("changed") > 0
    assert secured.second.status == 0, secured.second.text
    assert secured.second.total("changed") == 0, secured.second.text


def test_nobody_logs_in_as_root(secured: Secured) -> None:
    settings = secured.lab.settings
    for name in HOSTS:
        words = [
            "ssh",
            "-F",
            "none",
            "-i",
            str(settings.ssh_key),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "ControlPath=none",
        ]
        words += ["-o", f"UserKnownHostsFile={settings.known_hosts}", "-o", "BatchMode=yes"]
        assert subprocess.run([*words, f"root@{secured.lab.host(name).address}", "true"], check=False).returncode == 255
        others = [other for other in HOSTS if other != name]
        for other in others:
            assert secured.lab.host(name).ssh(f"ssh -o BatchMode=yes root@{other} true").returncode == 255


def test_preflight_says_which_model_this_is(secured: Secured) -> None:
    proof = secured.operator.run("preflight", preflight_intent={"encryption": "required"})
    assert proof.status == 0, proof.text
    assert (
        "Rights: least privilege. Ansible works as kvmops; hosts log in to each other as kvmops-peer; libvirt asks "
        "polkit about each call." in proof.words
    )
    assert "root ssh mesh" not in proof.words


def test_a_host_is_drained_encrypted_and_comes_back(secured: Secured) -> None:
    lab, operator = secured.lab, secured.operator
    boots = actual_state.boot_ids(lab)
    drain = operator.run("drain_host", drain_host_name="h1", drain_host_intent={"encryption": "required"})
    assert drain.status == 0, drain.text
    assert "Drain of h1: done, 4 guests moved" in drain.words
    assert actual_state.active_on(lab, "h1") == []
    where = actual_state.everywhere(lab)
    assert {name: len(hosts) for name, hosts in where.items()} == dict.fromkeys(lab.guests, 1)
    assert all(result["memory_ok"] for result in actual_state.verified(lab).values())

    again = operator.run("drain_host", drain_host_name="h1", drain_host_intent={"encryption": "required"})
    assert again.status == 0, again.text
    assert again.total("changed") == 0, again.text

    home = operator.run("restore_host", restore_host_name="h1", restore_host_intent={"encryption": "required"})
    assert home.status == 0, home.text
    assert actual_state.places(lab) == {guest.name: guest.home for guest in lab.guests.values()}
    assert actual_state.boot_ids(lab) == boots, "a guest was started again"
    assert all(result["memory_ok"] for result in actual_state.verified(lab).values())


@pytest.mark.parametrize(
    "command",
    [
        "sudo -n cat /etc/shadow",
        "sudo -n sh -c id",
        "sudo -n virsh -c qemu+ssh://kvmops-peer@h2/system version",
        "sudo -n virsh -r -c qemu:///system version",
        "sudo -n virsh -r -c 'qemu+ssh://kvmops-peer@h2/system?command=/tmp/x' version",
        "cat /etc/shadow",
        "cat /etc/pki/qemu/kvmops/server-key.pem",
    ],
)
def test_root_does_nothing_else_for_the_user(secured: Secured, command: str) -> None:
    refused = secured.as_user("h2", command)
    assert refused.returncode != 0, refused.stdout
    assert refused.stdout == ""


DEFINITION = "<domain type='qemu'><name>mine</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
POOL = "<pool type='dir'><name>mine</name><target><path>/etc</path></target></pool>"


@pytest.mark.parametrize(
    "words",
    [
        "destroy web-two",
        "undefine web-two",
        "shutdown web-two",
        "reset web-two",
        "dump web-two /tmp/dump",
        "save web-two /tmp/save",
        "dumpxml web-two --security-info",
        "define /tmp/mine.xml",
        "create /tmp/mine.xml",
        "pool-define /tmp/pool.xml",
        "pool-destroy images",
        "pool-undefine images",
        "vol-create-as images mine 1M",
        "net-destroy lab",
    ],
)
def test_libvirt_refuses_what_no_move_takes(secured: Secured, words: str) -> None:
    host = secured.lab.host("h2")
    host.ssh_with("cat > /tmp/mine.xml", DEFINITION)
    host.ssh_with("cat > /tmp/pool.xml", POOL)
    refused = secured.as_user("h2", f"virsh -q -c qemu:///system {words}")
    assert refused.returncode != 0
    assert "access denied" in refused.stderr, refused.stderr
    other = secured.as_other_host("h1", "h2", words)
    assert other.returncode != 0
    assert actual_state.domains(host)["web-two"] == "running"


@pytest.mark.parametrize("words", ["list", "domstate web-two", "dumpxml web-two"])
def test_another_host_sees_guests(secured: Secured, words: str) -> None:
    seen = secured.as_other_host("h1", "h2", words)
    assert seen.returncode == 0, seen.stderr


@pytest.mark.parametrize(
    "words",
    [
        "qemu-monitor-command web-two --hmp info version",
        "attach-disk web-two /dev/null vdz",
        "migrate --live --p2p web-two 'qemu+ssh://x/system?command=/tmp/x'",
        "suspend web-two",
    ],
)
def test_another_host_may_not_do_what_would_make_it_root_here(secured: Secured, words: str) -> None:
    refused = secured.as_other_host("h1", "h2", words)
    assert refused.returncode != 0
    assert "this host does not take call" in refused.stderr or "access denied" in refused.stderr, refused.stderr


def test_a_login_of_another_host_starts_nothing(secured: Secured) -> None:
    for command in ("id", "sh -c id", "scp -t /tmp"):
        done = secured.lab.host("h1").ssh(f"ssh kvmops-peer@h2 {command} < /dev/null")
        assert "uid=" not in done.stdout


def test_libvirt_with_polkit_takes_nobody_over_tls(secured: Secured) -> None:
    """Why hosts log in over ssh: polkit is told a process, and a peer over TLS is none."""
    refused = secured.lab.host("h1").ssh("virsh -q -c qemu+tls://h2/system list")
    assert refused.returncode != 0
    assert "access denied" in refused.stderr.lower() or "polkit" in refused.stderr.lower(), refused.stderr
