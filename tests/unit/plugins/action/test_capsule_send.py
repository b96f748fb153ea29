# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.action.capsule_send import ActionModule, _Send


def hosts(**args):
    """The hosts that an action sends to and through, with these arguments of its task on h1."""
    action = ActionModule.__new__(ActionModule)
    action._task = types.SimpleNamespace(args=args, delegate_to=None)
    return action._hosts({"inventory_hostname": "h1"})


def test_one_host_may_be_named_without_a_list():
    assert hosts(to="h2") == (["h2"], None)
    assert hosts(to=["h2", "h3"], via="h3") == (["h2", "h3"], "h3")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "to has no host. Name those that are to have the capsule."),
        ({"to": ["h2", "h1"]}, "h1 is to send the capsule, and is in to as well. Take it out of to."),
        ({"to": ["h2", "h2"]}, "to names a host twice. Name each host once."),
        ({"to": ["h2"], "via": "h3"}, "via is h3, which is not in to. It keeps what it passes on: add it to to."),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(args, why):
    with pytest.raises(AnsibleError) as error:
        hosts(**args)
    assert str(error.value) == why


OFFERED = {
    "guest": {"name": "db1", "uuid": "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"},
    "offer": {"image_bytes": 0, "public_key": "k", "sender_id": "i", "document": "d", "signature": "s"},
}


def question(variables, **args):
    """What a far end with these variables is asked by a task with these arguments."""
    other = types.SimpleNamespace(name="h2", variable=variables.get)
    action = types.SimpleNamespace(_task=types.SimpleNamespace(args=args, delegate_to="h1"))
    asked = _Send(action, {}, OFFERED, "ticket-1")._question(other, "root", {"bandwidth_mib_s": None})
    return {key: asked.get(key) for key in ("keys", "uri", "capsule_dir", "state_dir")}


def test_each_far_end_is_asked_with_what_is_its_own():
    far = {
        "kvmops_cluster_capsule_signers": ["ssh-ed25519 AAAA far"],
        "kvmops_cluster_uri": "qemu+unix:///system",
        "kvmops_cluster_capsule_dir": "/srv/far",
    }
    here = {"uri": "qemu:///system", "capsule_dir": "/srv/here", "state_dir": "/srv/state"}
    assert question(far, **here) == {
        "keys": ["ssh-ed25519 AAAA far"],
        "uri": "qemu+unix:///system",
        "capsule_dir": "/srv/far",
        "state_dir": "/srv/state",
    }
    assert question({}, **here) == {"keys": [], "uri": None, "capsule_dir": "/srv/here", "state_dir": "/srv/state"}
    assert question(far, keys=["ssh-ed25519 BBBB task"])["keys"] == ["ssh-ed25519 BBBB task"]
