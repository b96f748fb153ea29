# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks.rights import check_rights, model
from ansible_collections.kvmops.cluster.tests.unit.builders import snapshot

AS_ROOT = {"user": "root", "root": True, "checks_calls": False}
AS_USER = {"user": "kvmops", "root": False, "checks_calls": True}
ASKS = "asks polkit about each call."
LETS = "lets who reaches it do everything."


def hosts(**rights):
    return {host: snapshot(host, rights=one) for host, one in rights.items()}


def uris(*texts):
    return {f"h{number}": {"connect_uri": text} for number, text in enumerate(texts, 1)}


@pytest.mark.parametrize("uri", ["qemu+ssh://root@h1/system", "qemu+ssh://h1/system", "qemu+libssh2://root@h1/system"])
def test_a_root_ssh_mesh_is_noted_with_its_remedy_and_stops_nothing(uri):
    [finding] = check_rights(hosts(h1=AS_ROOT), uris(uri))
    assert finding == {
        "host": "h1",
        "bad": False,
        "refusal": {
            "code": "root_ssh_mesh",
            "reason": "other hosts log in here as root over ssh (a root ssh mesh): who is root on one host is root on "
            "all",
            "remedy": "let the playbook kvmops.cluster.secure_hosts set up users with few rights "
            "(docs/guides/least-privilege.md)",
        },
    }


@pytest.mark.parametrize("uri", ["qemu+ssh://kvmops-peer@h1/system", "qemu+tls://h1/system", "qemu+tcp://h1/system"])
def test_other_ways_are_no_root_ssh_mesh(uri):
    assert check_rights(hosts(h1=AS_USER), uris(uri)) == []


@pytest.mark.parametrize(
    ("rights", "addresses", "told"),
    [
        (
            {"h1": AS_USER, "h2": AS_USER},
            uris("qemu+ssh://kvmops-peer@h1/system", "qemu+ssh://kvmops-peer@h2/system"),
            "least privilege. Ansible works as kvmops; hosts log in to each other as kvmops-peer; libvirt " + ASKS,
        ),
        (
            {"h1": AS_USER, "h2": AS_ROOT},
            uris("qemu+ssh://kvmops-peer@h1/system", "qemu+ssh://root@h2/system"),
            "a root ssh mesh. Ansible works as kvmops and root; hosts log in to each other as kvmops-peer and root; "
            "libvirt " + LETS,
        ),
        (
            {"h1": AS_ROOT, "h2": AS_ROOT},
            uris("qemu+tls://h1/system", "qemu+tls://h2/system"),
            "mixed. Ansible works as root; hosts reach each other without a login; libvirt " + LETS,
        ),
        (
            {"h1": None},
            uris("qemu+tls://h1/system"),
            "mixed. Ansible works as somebody (unknown); hosts reach each other without a login; libvirt " + LETS,
        ),
    ],
)
def test_the_model_is_told_in_one_line(rights, addresses, told):
    assert model(hosts(**rights), addresses) == f"Rights: {told}"
