# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on which nobody logs in as root: a host is drained and comes back, and what is not permitted is refused."""

from __future__ import annotations

import shlex
import socket
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
LIMITED = "table inet kvmops_migration"
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
    """A cluster on which the role has been run, twice, and where root cannot log in any more.

    Attributes:
        wanted: what the role was run with.
    """

    lab: Lab
    operator: Operator
    wanted: dict[str, Any]
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
        "secure_hosts_limit_ports": True,
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
        yield Secured(lab, operator, wanted, checked, first, second)
    finally:
        for name in HOSTS:
            as_root_without_ssh(lab.host(name), OPEN, None)
        closed.undo()
        removed = operator.run("secure_hosts", **wanted, secure_hosts_state="absent")
        operator.leave()
        tidy(lab)
    assert removed.status == 0, removed.text
    left = (
        "ls -d /etc/kvmops /etc/pki/qemu/kvmops /etc/sudoers.d/kvmops /etc/polkit-1/rules.d/40-kvmops.rules"
        " /etc/systemd/system/kvmops-migration-ports.service"
    )
    for name in HOSTS:
        assert LIMITED not in lab.host(name).ssh("nft list tables", check=True).stdout
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


def test_a_cluster_is_evened_out_by_a_plan_and_a_host_evacuated(secured: Secured) -> None:
    lab, operator = secured.lab, secured.operator
    boots = actual_state.boot_ids(lab)
    weighed = {
        "rebalance_weights": {"cpu": 0, "pressure": 0},
        "rebalance_measure_s": 0,
        "rebalance_cpu_sample_s": 0,
        # They have moved in the test before.
        "rebalance_cooldown_s": 0,
    }
    pipeline = operator.run("rebalance", rebalance_mode="ci", rebalance_report_dir="plans", **weighed)
    assert pipeline.status == 2, pipeline.text
    assert "A plan was made: " in pipeline.words
    plan = str(operator.folder / "plans" / "rebalance.json")
    done = operator.run("rebalance", rebalance_plan=plan, **weighed)
    assert done.status == 0, done.text
    counts = [len(actual_state.active_on(lab, name)) for name in HOSTS]
    assert max(counts) - min(counts) <= 1, counts

    emptied = operator.run("evacuate", "-l", "h3", evacuate_measure_s=0)
    assert emptied.status == 0, emptied.text
    assert actual_state.active_on(lab, "h3") == []
    opened = operator.run("restore_host", restore_host_name="h3")
    assert opened.status == 0, opened.text
    assert actual_state.boot_ids(lab) == boots, "a guest was started again"


def is_refused(address: str, port: int) -> bool:
    """Whether a connection from this machine is refused."""
    try:
        socket.create_connection((address, port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


REACH = "python3 -c 'import socket; socket.create_connection((\"{}\", {}), 5)'"
FROM_PORT = 'python3 -c \'import socket; socket.create_connection(("{}", {}), 5, ("", {}))\''
SERVE = "systemd-run --quiet --unit=listener-{0} python3 -m http.server --bind :: {0}"


def test_only_other_hosts_reach_the_ports_of_migrations(secured: Secured) -> None:
    there, others = secured.lab.host("h2"), ("h1", "h3")
    for port in (49215, 49216):
        there.ssh(SERVE.format(port), check=True)
    try:
        for name in others:
            reach = REACH.format(there.migration_address, 49215)
            actual_state.wait_until(
                f"{name} reaches h2",
                lambda name=name, reach=reach: secured.lab.host(name).ssh(reach).returncode == 0,
                20,
            )
        # This machine has addresses on both networks, and is no host of the cluster.
        assert is_refused(there.migration_address, 49215)
        assert not is_refused(there.migration_address, 49216)
        # What h2 opens itself goes on, also from one of these ports.
        here = there.migration_address.rpartition(".")[0] + ".1"
        with socket.create_server((here, 0)) as server:
            there.ssh(FROM_PORT.format(here, server.getsockname()[1], 49200), check=True)
        # The rules follow when all others are loaded anew.
        there.ssh("systemctl restart nftables", check=True)
        actual_state.wait_until("h2 refuses others again", lambda: is_refused(there.migration_address, 49215), 20)
    finally:
        there.ssh("systemctl stop listener-49215 listener-49216; systemctl stop nftables")
        there.ssh("systemctl start kvmops-migration-ports", check=True)


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


def test_certificates_of_ones_own_authority_are_taken(secured: Secured) -> None:
    """The last test: it needs root, as the role does."""
    lab, operator = secured.lab, secured.operator
    pki = lab.settings.state / "pki"
    document = yaml.safe_load(operator.inventory.read_text(encoding="utf-8"))
    for name, variables in document["all"]["children"]["hypervisors"]["hosts"].items():
        variables |= {
            "secure_hosts_cert": str(pki / f"{name}-cert.pem"),
            "secure_hosts_key": str(pki / f"{name}-key.pem"),
        }
    operator.inventory.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    given = {
        **secured.wanted,
        "secure_hosts_certificates": "given",
        "secure_hosts_ca_cert": str(pki / "ca-cert.pem"),
    }
    for name in HOSTS:
        as_root_without_ssh(lab.host(name), OPEN, None)
    try:
        changed = operator.run("secure_hosts", **given)
    finally:
        for name in HOSTS:
            as_root_without_ssh(lab.host(name), CLOSE, None)
    assert changed.status == 0, changed.text
    for name in HOSTS:
        there = lab.host(name).ssh("cat /etc/pki/qemu/kvmops/server-cert.pem", check=True).stdout
        assert there == (pki / f"{name}-cert.pem").read_text(encoding="ascii")
    drain = operator.run("drain_host", drain_host_name="h2", drain_host_intent={"encryption": "required"})
    assert drain.status == 0, drain.text
    assert actual_state.active_on(lab, "h2") == []
    home = operator.run("restore_host", restore_host_name="h2", restore_host_intent={"encryption": "required"})
    assert home.status == 0, home.text
